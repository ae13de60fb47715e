#!/usr/bin/env python3
"""Writes tests/corpus/safetensors/*.safetensors and their table, tests/corpus/safetensors.tsv: file, code, why.

One small file for each rule of the format, to accept and to reject, named for the rule. tests/safetensors_test.c opens
each and reads all its tensors: the first code must be the one of the table.   tools/corpus/safetensors.py
"""
import os
import shutil
import struct

here = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "corpus")
folder = os.path.join(here, "safetensors")
rows = []


def add(name, code, why, blob):
    assert name not in [r[0] for r in rows], name
    rows.append((name, code, why))
    with open(os.path.join(folder, name + ".safetensors"), "wb") as f:
        f.write(blob)


def st(header, data=b"", n=None):
    """A file: length, header (text or bytes), data. No padding: the format does not ask for it."""
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if n is None else n) + header + data


def entry(name="x", dtype='"F32"', shape="[1]", offsets="[0,4]", more=""):
    return '"%s":{"dtype":%s,"shape":%s,"data_offsets":%s%s}' % (name, dtype, shape, offsets, more)


def one(data=bytes(4), **fields):
    return st("{" + entry(**fields) + "}", data)


def unknown(value):
    return one(more=',"unknown":' + value)


def named(name):
    return one(name=name)


shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
OK, FORMAT, LIMIT, DTYPE = "OK", "FORMAT", "LIMIT", "DTYPE"

# ---- the frame ----
add("frame_smallest", OK, "{} padded to 16 bytes", st("{}      "))
add("frame_unpadded", OK, "padding is not asked for", st("{}"))
add("frame_no_bytes", FORMAT, "a length has 8 bytes", b"")
add("frame_seven_bytes", FORMAT, "a length has 8 bytes", bytes(7))
add("frame_length_zero", FORMAT, "a header begins with {", st(""))
add("frame_length_one_too_many", FORMAT, "the length reaches behind the end", st("{}", n=3))
add("frame_length_over_format", FORMAT, "100,000,000 bytes at most", st("{}", n=100000001))
add("frame_length_all_ones", FORMAT, "the length is no size", st("{}", n=2**64 - 1))
add("frame_length_overflows_with_8", FORMAT, "length + 8 overflows", st("{}", n=2**64 - 8))
add("frame_length_cuts_header", FORMAT, "the header ends too early", st('{"a', b'":{}}', n=3))
add("frame_trailing_spaces", OK, "padding", st("{}" + " " * 30))
add("frame_trailing_white", OK, "JSON's white space is padding too", st("{}\t\n\r "))
add("frame_trailing_zero", FORMAT, "a zero byte is no padding", st("{}\0"))
add("frame_trailing_letter", FORMAT, "nothing stands behind the }", st("{}x"))
add("frame_two_objects", FORMAT, "nothing stands behind the }", st("{}{}"))
add("frame_leading_space", FORMAT, "a header begins with {", st(" {}"))
add("frame_byte_order_mark", FORMAT, "a header begins with {", st("\ufeff{}"))
add("frame_array", FORMAT, "a header is an object", st("[]"))
add("frame_string", FORMAT, "a header is an object", st('"x"'))
add("frame_null", FORMAT, "a header is an object", st("null"))

# ---- structure ----
add("white_everywhere", OK, "white space between all tokens",
    st(' { \n"x"\t:\r{ "dtype" : "F32" , "shape" : [ 1 , 1 ] , "data_offsets" : [ 0 , 4 ] } } '[1:], bytes(4)))
add("structure_no_end", FORMAT, "the object is not closed", st("{"))
add("structure_no_name", FORMAT, "a name stands in quotes", st('{x:{}}'))
add("structure_single_quotes", FORMAT, "strings have double quotes", st("{'x':{}}"))
add("structure_comment", FORMAT, "JSON has no comments", st("{/**/}"))
add("structure_no_colon", FORMAT, "a colon follows a name", st('{"x"{}}'))
add("structure_no_value", FORMAT, "a value follows the colon", st('{"x":}'))
add("structure_no_comma", FORMAT, "a comma stands between entries",
    st("{" + entry("a") + entry("b", offsets="[4,8]") + "}", bytes(8)))
add("structure_comma_at_end", FORMAT, "no comma before }", st("{" + entry() + ",}", bytes(4)))
add("structure_comma_at_begin", FORMAT, "no comma after {", st("{," + entry() + "}", bytes(4)))
add("structure_only_comma", FORMAT, "no comma alone", st("{,}"))
add("structure_wrong_close", FORMAT, "} closes {", st("{" + entry() + "]", bytes(4)))
for what, value in (("array", "[]"), ("number", "1"), ("null", "null"), ("string", '"F32"'), ("true", "true")):
    add("entry_is_" + what, FORMAT, "an entry is an object", st('{"x":%s}' % value))
add("entry_as_array", FORMAT, "an entry is an object (the reference reads arrays too)", st('{"x":["F32",[1],[0,4]]}', bytes(4)))

# ---- fields ----
add("fields_any_order", OK, "fields stand in any order",
    st('{"x":{"data_offsets":[0,4],"shape":[1],"dtype":"F32"}}', bytes(4)))
add("fields_escaped_name", OK, "an escaped letter is that letter",
    st('{"x":{"\\u0064type":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)))
add("fields_none", FORMAT, "all three are needed", st('{"x":{}}'))
add("fields_no_dtype", FORMAT, "dtype is needed", st('{"x":{"shape":[1],"data_offsets":[0,4]}}', bytes(4)))
add("fields_no_shape", FORMAT, "shape is needed", st('{"x":{"dtype":"F32","data_offsets":[0,4]}}', bytes(4)))
add("fields_no_offsets", FORMAT, "data_offsets is needed", st('{"x":{"dtype":"F32","shape":[1]}}', bytes(4)))
add("fields_dtype_twice", FORMAT, "a field stands once", one(more=',"dtype":"F32"'))
add("fields_shape_twice", FORMAT, "a field stands once", one(more=',"shape":[1]'))
add("fields_offsets_twice", FORMAT, "a field stands once", one(more=',"data_offsets":[0,4]'))
add("fields_escaped_twice", FORMAT, "a field stands once, however it is spelled", one(more=',"sh\\u0061pe":[1]'))
add("fields_comma_at_end", FORMAT, "no comma before }", one(more=","))
add("fields_no_comma", FORMAT, "a comma stands between fields", st('{"x":{"dtype":"F32" "shape":[1],"data_offsets":[0,4]}}', bytes(4)))
add("fields_no_colon", FORMAT, "a colon follows a field's name", st('{"x":{"dtype" "F32"}}'))
add("fields_not_closed", FORMAT, "the entry is not closed", st('{"x":{"dtype":"F32"'))

# ---- dtypes ----
BITS = dict(BOOL=8, F4=4, F6_E2M3=6, F6_E3M2=6, U8=8, I8=8, F8_E5M2=8, F8_E4M3=8, F8_E8M0=8, F8_E4M3FNUZ=8, F8_E5M2FNUZ=8,
            I16=16, U16=16, F16=16, BF16=16, I32=32, U32=32, F32=32, C64=64, F64=64, I64=64, U64=64)
OURS = "BOOL U8 F16 BF16 I32 F32 F64 I64".split()
for d, bits in BITS.items():
    size = 4 * bits // 8
    add("dtype_" + d, OK if d in OURS else DTYPE, "4 elements of %d bits" % bits,
        one(bytes(size), dtype='"%s"' % d, shape="[4]", offsets="[0,%d]" % size))
    add("dtype_%s_short" % d, FORMAT, "4 elements of %d bits are more than given" % bits,
        one(bytes(size - 1), dtype='"%s"' % d, shape="[4]", offsets="[0,%d]" % (size - 1)))
for d in ("C128", "I4", "F128", "f32", "F32 ", "", "F3", "F321", "FLOAT32"):
    add("dtype_unknown_%s" % (d.strip() + ("_spaced" if " " in d else "") or "empty"), FORMAT, "there is no such dtype", one(dtype='"%s"' % d))
for what, value in (("number", "32"), ("null", "null"), ("array", '["F32"]'), ("object", '{"F32":null}')):
    add("dtype_is_" + what, FORMAT, "dtype is a string", one(dtype=value))
add("dtype_F4_half_byte", FORMAT, "elements fill whole bytes", one(bytes(2), dtype='"F4"', shape="[3]", offsets="[0,2]"))
add("dtype_F6_part_byte", FORMAT, "elements fill whole bytes", one(bytes(3), dtype='"F6_E2M3"', shape="[3]", offsets="[0,3]"))
add("dtype_F4_none", DTYPE, "no elements fill no bytes", one(b"", dtype='"F4"', shape="[0]", offsets="[0,0]"))
add("data_not_a_number", OK, "data is not judged", one(b"\xff\xff\xff\xff"))
add("data_bool_two", FORMAT, "a BOOL is 0 or 1", one(b"\0\1\2\1", dtype='"BOOL"', shape="[4]"))
add("data_bool_one", OK, "a BOOL is 0 or 1", one(b"\0\1\1\1", dtype='"BOOL"', shape="[4]"))

# ---- shapes ----
add("shape_scalar", OK, "[] is a scalar", one(shape="[]"))
add("shape_zero", OK, "a size may be 0", one(b"", shape="[0]", offsets="[0,0]"))
add("shape_zero_between", OK, "a size may be 0", one(b"", shape="[3,0,2]", offsets="[0,0]"))
add("shape_rank_8", OK, "8 dimensions", one(shape="[1,1,1,1,1,1,1,1]"))
add("shape_rank_9", LIMIT, "8 dimensions at most", one(shape="[1,1,1,1,1,1,1,1,1]"))
for what, value in (("null", "null"), ("number", "1"), ("string", '"1"'), ("object", "{}"), ("nested", "[[1]]"), ("of_strings", '["1"]'),
                    ("of_null", "[null]"), ("of_true", "[true]")):
    add("shape_is_" + what, FORMAT, "shape is an array of whole numbers", one(shape=value))
add("shape_comma_at_end", FORMAT, "no comma before ]", one(shape="[1,]"))
add("shape_comma_at_begin", FORMAT, "no comma after [", one(shape="[,1]"))
add("shape_two_commas", FORMAT, "one comma between numbers", one(shape="[1,,1]"))
add("shape_no_comma", FORMAT, "a comma between numbers", one(shape="[1 1]"))
add("shape_not_closed", FORMAT, "] closes [", one(shape="[1"))
add("shape_wrong_close", FORMAT, "] closes [", one(shape="[1}"))
for what, value in (("negative", "-1"), ("minus_zero", "-0"), ("real", "1.0"), ("exponent", "1e0"), ("leading_zero", "01"), ("plus", "+1"),
                    ("two_zeros", "00"), ("hexadecimal", "0x1"), ("over_64_bits", str(2**64)), ("far_over_64_bits", "9" * 40)):
    add("number_" + what, FORMAT, "a size is a whole number in its only spelling", one(shape="[%s]" % value))
add("number_64_bits", LIMIT, "a size is below 2^63", one(shape="[%d]" % (2**64 - 1)))
add("number_2_63", LIMIT, "a size is below 2^63", one(b"", shape="[%d,0]" % 2**63, offsets="[0,0]"))
add("number_2_63_less_1", OK, "a size is below 2^63", one(b"", shape="[%d,0]" % (2**63 - 1), offsets="[0,0]"))
add("product_overflows", FORMAT, "the product overflows", one(shape="[4294967296,4294967296]"))
add("product_overflows_before_zero", FORMAT, "the product overflows before the 0", one(b"", shape="[4294967296,4294967296,0]", offsets="[0,0]"))
add("product_overflows_after_zero", LIMIT, "strides overflow", one(b"", shape="[0,4294967296,4294967296]", offsets="[0,0]"))
add("product_overflows_to_fit", FORMAT, "2^62 * 4 + 1 elements are not 1", one(shape="[4611686018427387904,4]", offsets="[0,0]"))
add("product_in_bits_overflows", FORMAT, "2^60 elements of 32 bits overflow", one(shape="[1152921504606846976]", offsets="[0,0]"))

# ---- offsets ----
for what, value in (("one", "[0]"), ("three", "[0,4,4]"), ("none", "[]"), ("null", "null"), ("number", "4"), ("object", "{}"), ("strings", '["0","4"]'),
                    ("negative", "[-4,0]"), ("real", "[0.0,4.0]"), ("comma_at_end", "[0,4,]")):
    add("offsets_" + what, FORMAT, "data_offsets is an array of two whole numbers", one(offsets=value))
add("offsets_reversed", FORMAT, "begin <= end", one(offsets="[4,0]"))
add("offsets_too_small", FORMAT, "end - begin is what shape and dtype need", one(offsets="[0,3]"))
add("offsets_too_large", FORMAT, "end - begin is what shape and dtype need", one(bytes(5), offsets="[0,5]"))
add("offsets_wrap", FORMAT, "end - begin does not wrap", one(offsets="[%d,0]" % (2**64 - 4)))
add("offsets_behind_end", FORMAT, "data lies in the file", one(offsets="[4,8]"))
add("offsets_far_behind_end", FORMAT, "data lies in the file", one(offsets="[%d,%d]" % (2**64 - 5, 2**64 - 1)))


def many(*spans, data=None):
    text = ",".join(entry("t%d" % i, dtype='"U8"', shape="[%d]" % (e - b), offsets="[%d,%d]" % (b, e)) for i, (b, e) in enumerate(spans))
    return st("{" + text + "}", bytes(max([e for _, e in spans] + [0]) if data is None else data))


add("coverage_any_order", OK, "entries stand in any order", many((3, 5), (0, 1), (1, 3)))
add("coverage_empty_between", OK, "no bytes between two tensors", many((0, 2), (2, 2), (2, 4)))
add("coverage_empty_first_and_last", OK, "no bytes at both ends", many((0, 0), (0, 2), (2, 2), (2, 2)))
add("coverage_hole_at_begin", FORMAT, "data begins at 0", many((1, 3)))
add("coverage_hole_between", FORMAT, "no holes", many((0, 1), (2, 3)))
add("coverage_hole_at_end", FORMAT, "the last ends at the end of the file", many((0, 2), data=3))
add("coverage_overlap", FORMAT, "no overlap", many((0, 2), (1, 3)))
add("coverage_same_bytes", FORMAT, "no overlap", many((0, 2), (0, 2)))
add("coverage_inside", FORMAT, "no overlap", many((0, 4), (1, 2)))
add("coverage_empty_inside", FORMAT, "no bytes in the middle of others", many((0, 4), (2, 2)))
add("coverage_empty_behind_end", FORMAT, "no bytes behind the end", many((0, 2), (3, 3), data=2))
add("coverage_data_missing", FORMAT, "data lies in the file", many((0, 2), (2, 4), data=3))
add("coverage_no_tensor_for_data", FORMAT, "all data belongs to a tensor", st("{}", b"\0"))

# ---- metadata ----
add("metadata_empty", OK, "no pairs", st('{"__metadata__":{}}'))
add("metadata_null", OK, "none, as the reference reads it", st('{"__metadata__":null}'))
add("metadata_pairs", OK, "strings", st('{"__metadata__":{"format":"pt","":"","a\\nb":"\\u00e9"}}'))
add("metadata_last", OK, "it stands anywhere", st("{" + entry() + ',"__metadata__":{"a":"b"}}', bytes(4)))
add("metadata_escaped_name", OK, "an escaped letter is that letter", st('{"__meta\\u0064ata__":{"a":"b"}}'))
add("metadata_almost", FORMAT, "only __metadata__ is not a tensor", st('{"__metadata___":{"a":"b"}}'))
for what, value in (("array", "[]"), ("string", '"a"'), ("number", "1"), ("false", "false")):
    add("metadata_is_" + what, FORMAT, "metadata is an object", st('{"__metadata__":%s}' % value))
for what, value in (("number", "1"), ("null", "null"), ("object", "{}"), ("array", '["b"]')):
    add("metadata_value_" + what, FORMAT, "metadata holds strings only", st('{"__metadata__":{"a":%s}}' % value))
add("metadata_twice", FORMAT, "it stands once", st('{"__metadata__":{},"__metadata__":{}}'))
add("metadata_twice_null", FORMAT, "it stands once", st('{"__metadata__":null,"__metadata__":{}}'))
add("metadata_key_twice", FORMAT, "a key stands once", st('{"__metadata__":{"a":"b","c":"d","a":"b"}}'))
add("metadata_comma_at_end", FORMAT, "no comma before }", st('{"__metadata__":{"a":"b",}}'))
add("metadata_no_comma", FORMAT, "a comma stands between pairs", st('{"__metadata__":{"a":"b" "c":"d"}}'))
add("metadata_no_colon", FORMAT, "a colon follows a key", st('{"__metadata__":{"a" "b"}}'))
add("metadata_not_closed", FORMAT, "} closes {", st('{"__metadata__":{"a":"b"'))

# ---- names ----
add("name_empty", OK, "a name may be empty", named(""))
add("name_512", OK, "512 bytes", named("n" * 512))
add("name_513", LIMIT, "512 bytes at most", named("n" * 513))
add("name_unicode", OK, "UTF-8", named("\u00e9\u6f22\U0001f600"))
add("name_escapes", OK, "all escapes of JSON", named('\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00Ff'))
add("name_surrogate_pair", OK, "one character in two escapes", named("\\ud83d\\ude00"))
add("name_delete", OK, "0x7f is no control character in JSON", named("\x7f"))
add("name_twice", FORMAT, "a name stands once", st("{" + entry("a") + "," + entry("b", offsets="[4,8]") + "," + entry("a", offsets="[8,12]") + "}", bytes(12)))
add("name_twice_empty_tensor", FORMAT, "a name stands once", st("{" + entry("a", shape="[0]", offsets="[0,0]") + "," + entry("a", shape="[0]", offsets="[0,0]") + "}"))
add("name_twice_escaped", FORMAT, "a name stands once, however it is spelled",
    st("{" + entry("a") + "," + entry("\\u0061", offsets="[4,8]") + "}", bytes(8)))
add("name_zero_byte", FORMAT, "no zero byte in a name (the reference allows it)", named("a\\u0000b"))

# ---- strings ----
for what, value in (("control", "\x01"), ("newline", "\n"), ("tab", "\t"), ("zero", "\0")):
    add("string_raw_" + what, FORMAT, "control characters are escaped", named(value))
for what, value in (("x", "\\x41"), ("apostrophe", "\\'"), ("upper_u", "\\U0041"), ("zero", "\\0")):
    add("string_escape_" + what, FORMAT, "JSON knows no such escape", named(value))
for what, value in (("short", "\\u12"), ("letter", "\\u12g4"), ("sign", "\\u+123"), ("space", "\\u 123")):
    add("string_u_" + what, FORMAT, "four hexadecimal digits", named(value))
for what, value in (("high_alone", "\\ud83d"), ("low_alone", "\\ude00"), ("high_then_letter", "\\ud83dx"), ("high_then_escape", "\\ud83d\\n"),
                    ("high_twice", "\\ud83d\\ud83d"), ("high_then_other", "\\ud83d\\u0041"), ("reversed", "\\ude00\\ud83d")):
    add("string_surrogate_" + what, FORMAT, "halves of a pair stand together", named(value))
add("string_no_end", FORMAT, "a string ends", st('{"x'))
add("string_no_end_escape", FORMAT, "a string ends", st('{"x\\'))
add("string_no_end_u", FORMAT, "a string ends", st('{"x\\u00'))
for what, value in (("continuation", b"\x80"), ("ff", b"\xff"), ("overlong_2", b"\xc0\x80"), ("overlong_3", b"\xe0\x80\x80"), ("overlong_4", b"\xf0\x80\x80\x80"),
                    ("surrogate", b"\xed\xa0\x80"), ("over_10ffff", b"\xf4\x90\x80\x80"), ("cut_off", b"\xe6\xbc")):
    add("utf8_" + what, FORMAT, "the header is UTF-8", st(b'{"' + value + b'":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)))
    add("utf8_unknown_" + what, FORMAT, "the header is UTF-8, in what is skipped too",
        st(b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"y":"' + value + b'"}}', bytes(4)))

# ---- unknown fields ----
for what, value in (("string", '"y"'), ("true", "true"), ("false", "false"), ("null", "null"), ("zero", "0"), ("minus_zero", "-0"),
                    ("real", "-1.50e+3"), ("exponent", "2E-7"), ("large", str(2**64 - 1)), ("empty_array", "[ ]"), ("empty_object", "{ }"),
                    ("nested", '{"a":[1,{"b":[]},"c"],"d":{}}'), ("depth_64", "[" * 64 + "]" * 64), ("depth_64_objects", '{"a":' * 63 + "{}" + "}" * 63)):
    add("unknown_" + what, OK, "unknown fields are skipped", unknown(value))
add("unknown_twice", OK, "unknown fields are skipped, twice too", one(more=',"y":1,"y":2'))
add("unknown_first", OK, "unknown fields are skipped", st('{"x":{"y":{"dtype":"I8"},"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)))
for what, value in (("array", "[" * 65 + "]" * 65), ("object", '{"a":' * 64 + "{}" + "}" * 64), ("both", '[{"a":' * 33 + "1" + "}]" * 33)):
    add("unknown_depth_65_" + what, LIMIT, "64 levels at most", unknown(value))
for what, value in (("nothing", ""), ("tru", "tru"), ("truee", "truee"), ("nul", "nul"), ("NaN", "NaN"), ("Infinity", "Infinity"), ("minus", "-"), ("minus_minus", "--1"),
                    ("plus", "+1"), ("dot_at_end", "1."), ("dot_at_begin", ".5"), ("exponent_empty", "1e"), ("exponent_sign", "1e+"), ("leading_zero", "01"),
                    ("minus_leading_zero", "-01"), ("mismatch", "[}"), ("mismatch_object", "{]"), ("comma_at_end", "[1,]"), ("comma_at_begin", "[,1]"),
                    ("object_comma_at_end", '{"a":1,}'), ("object_no_key", "{1:2}"), ("object_no_colon", '{"a" 1}'), ("object_no_value", '{"a":}'),
                    ("no_comma", "[1 2]"), ("string_no_end", '"a'), ("bad_escape", '"\\q"'), ("control", '"\n"'), ("open_array", "[[1]"), ("open_object", '{"a":{}')):
    add("unknown_bad_" + what, FORMAT, "what is skipped is JSON all the same", unknown(value))

with open(os.path.join(here, "safetensors.tsv"), "w") as f:
    f.write("# Written by tools/corpus/safetensors.py: file, code, why.\n")
    for r in sorted(rows):
        f.write("\t".join(r) + "\n")
print(len(rows), "files,", sum(r[1] == OK for r in rows), "to accept")
