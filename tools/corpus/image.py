#!/usr/bin/env python3
"""Writes tests/corpus/image/* and their table, tests/corpus/image.tsv: file, code, why.

One small file for each rule of PNG, JPEG, PGM and PPM, to accept and to reject, named for the rule. tests/image_test.c reads each:
the code must be the one of the table. JPEG files are made of those in tests/golden/image.   tools/corpus/image.py
"""
import os
import shutil
import struct
import zlib

here = os.path.join(os.path.dirname(__file__), "..", "..", "tests")
folder = os.path.join(here, "corpus", "image")
rows = []
OK, FORMAT, LIMIT = "OK", "FORMAT", "LIMIT"


def add(name, code, why, blob):
    assert name not in [r[0] for r in rows], name
    rows.append((name, code, why))
    with open(os.path.join(folder, name), "wb") as f:
        f.write(blob)


def golden(name):
    with open(os.path.join(here, "golden", "image", name), "rb") as f:
        return f.read()


shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)

# ---- what it is ----
add("empty", FORMAT, "no bytes", b"")
add("one_byte", FORMAT, "no picture", b"P")
add("text", FORMAT, "no picture", b"hello, world\n")
add("gif", FORMAT, "not read, but known", b"GIF89a\1\0\1\0\0\0\0;")
add("bmp", FORMAT, "not read, but known", b"BM" + bytes(52))
add("tiff", FORMAT, "not read, but known", b"II*\0" + bytes(20))
add("webp", FORMAT, "not read, but known", b"RIFF\x1a\0\0\0WEBPVP8L" + bytes(14))
add("heif", FORMAT, "not read, but known", b"\0\0\0\x18ftypheic" + bytes(12))
add("bitmap_text", FORMAT, "P1 is not read, but known", b"P1\n2 2\n0 1 1 0\n")
add("bitmap", FORMAT, "P4 is not read, but known", b"P4\n2 2\n\0\0")
add("pam", FORMAT, "P7 is not read, but known", b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n\0")

# ---- PGM and PPM ----
add("pgm", OK, "bytes", b"P5\n3 2\n255\nabcdef")
add("ppm", OK, "bytes", b"P6\n1 2\n255\nabcdef")
add("pgm_text", OK, "numbers", b"P2\n3 2\n9\n0 1 2\n3 4 9\n")
add("ppm_text", OK, "numbers", b"P3 1 1 255 1 2 3")
add("pgm_text_comments", OK, "comments between samples", b"P2 2 1 9 #a\n1#b\n2#c")
add("pgm_comment_at_once", OK, "a comment behind the magic", b"P5#x\n1 1 255\na")
add("pgm_leading_zeros", OK, "leading zeros", b"P5 0001 001 00255\na")
add("pgm_two_bytes", OK, "two bytes a sample", b"P5 2 1 65535\nabcd")
add("pgm_most_1", OK, "1 is the least largest sample", b"P5 2 1 1\n\0\1")
add("pgm_most_0", FORMAT, "1 at least", b"P5 2 1 0\n\0\0")
add("pgm_most_65536", FORMAT, "65535 at most", b"P5 2 1 65536\nabcd")
add("pgm_most_missing", FORMAT, "three numbers", b"P5 2 1")
add("pgm_most_not_ended", FORMAT, "a blank behind the largest sample", b"P5 2 1 255")
add("pgm_most_and_text", FORMAT, "one blank behind the largest sample", b"P5 2 1 255#a\n\0\0")
add("pgm_width_0", FORMAT, "a pixel at least", b"P5 0 1 255\n")
add("pgm_height_0", FORMAT, "a pixel at least", b"P5 1 0 255\n")
add("pgm_negative", FORMAT, "no sign", b"P5 -1 1 255\na")
add("pgm_word", FORMAT, "decimal numbers", b"P5 x 1 255\na")
add("pgm_hexadecimal", FORMAT, "decimal numbers", b"P5 0x1 1 255\na")
add("pgm_no_blank", FORMAT, "a blank behind the magic", b"P51 1 255\na")
add("pgm_magic_only", FORMAT, "a header", b"P5")
add("pgm_comment_without_end", FORMAT, "a comment ends", b"P5 1 1 # 255\x20a")
add("pgm_side_at_limit", FORMAT, "65535 is allowed, but not there", b"P5 65535 1 255\na")
add("pgm_side_over_limit", LIMIT, "65535 is the limit", b"P5 65536 1 255\na")
add("pgm_pixels_at_limit", FORMAT, "64,000,000 are allowed, but not there", b"P5 8000 8000 255\na")
add("pgm_pixels_over_limit", LIMIT, "64,000,000 are the limit", b"P5 8001 8000 255\na")
add("pgm_width_overflows", FORMAT, "10^9 at most", b"P5 4294967297 1 255\na")
add("pgm_width_overflows_64", FORMAT, "10^9 at most", b"P5 18446744073709551617 1 255\na")
add("pgm_product_wraps", LIMIT, "65536 x 65536 is not 0", b"P5 65536 65536 255\na")
add("pgm_one_short", FORMAT, "as many bytes as the sizes say", b"P5 3 2 255\nabcde")
add("pgm_one_more", FORMAT, "as many bytes as the sizes say", b"P5 3 2 255\nabcdefg")
add("pgm_two_pictures", FORMAT, "one picture", b"P5 1 1 255\naP5 1 1 255\nb")
add("pgm_two_bytes_short", FORMAT, "two bytes a sample", b"P5 2 1 256\n\0\0\0")
add("pgm_sample_over", FORMAT, "no sample over the largest", b"P5 2 1 100\n\0\x65")
add("pgm_sample_at_largest", OK, "the largest itself", b"P5 2 1 100\n\0\x64")
add("pgm_wide_sample_over", FORMAT, "no sample over the largest", b"P5 1 1 1000\n\3\xe9")
add("pgm_text_short", FORMAT, "as many samples as the sizes say", b"P2 2 2 9 1 2 3           ")
add("pgm_text_much_too_short", FORMAT, "a sample takes two bytes", b"P2 2 2 9 1 2")
add("pgm_text_more", FORMAT, "as many samples as the sizes say", b"P2 2 2 9 1 2 3 4 5")
add("pgm_text_no_last_blank", OK, "the last sample may end the file", b"P2 2 1 9 1 2")
add("pgm_text_over", FORMAT, "no sample over the largest", b"P2 2 1 9 1 10")
add("pgm_text_word", FORMAT, "decimal numbers", b"P2 2 1 9 1 x")
add("pgm_text_lies", FORMAT, "8000 x 8000 are not in a small file", b"P2 8000 8000 9 1 2 3 4")
add("ppm_lies", FORMAT, "8000 x 8000 are not in a small file", b"P6 8000 8000 255\n1234")
add("ppm_one_short", FORMAT, "three samples a pixel", b"P6 1 2 255\nabcde")

# ---- PNG ----


def chunk(kind, data, length=None, crc=None):
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(
        ">I", zlib.crc32(kind + data) if crc is None else crc)


MAGIC = b"\x89PNG\r\n\x1a\n"
END = chunk(b"IEND", b"")


def ihdr(w=2, h=2, depth=8, kind=0, packing=0, filtering=0, lace=0):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", w & 0xffffffff, h & 0xffffffff, depth, kind, packing, filtering, lace))


def idat(raw):
    return chunk(b"IDAT", zlib.compress(raw, 9))


RAW = b"\0ab\0cd"                                        # 2 x 2 grey
GOOD = MAGIC + ihdr() + idat(RAW) + END
add("png", OK, "grey, 2 x 2", GOOD)
add("png_rgba", OK, "alpha is dropped", MAGIC + ihdr(1, 1, 8, 6) + idat(b"\0abcd") + END)
add("png_16", OK, "16 bits", MAGIC + ihdr(1, 1, 16, 2) + idat(b"\0abcdef") + END)
add("png_interlaced", OK, "seven passes", MAGIC + ihdr(lace=1) + idat(b"\0a\0b\0cd") + END)
PLTE = chunk(b"PLTE", bytes(range(12)))
add("png_palette", OK, "an index a pixel", MAGIC + ihdr(kind=3) + PLTE + idat(b"\0\0\1\0\2\3") + END)
add("png_palette_transparent", OK, "tRNS is not looked at", MAGIC + ihdr(kind=3) + PLTE + chunk(b"tRNS", b"\0\x80") + idat(b"\0\0\1\0\2\3") + END)
add("png_palette_index_behind_end", OK, "as libpng: black", MAGIC + ihdr(kind=3) + PLTE + idat(b"\0\0\1\0\2\4") + END)
add("png_palette_missing", FORMAT, "PLTE is there", MAGIC + ihdr(kind=3) + idat(b"\0\0\1\0\2\3") + END)
add("png_palette_late", FORMAT, "PLTE before IDAT", MAGIC + ihdr(kind=3) + idat(b"\0\0\1\0\2\3") + PLTE + END)
add("png_palette_of_4_bytes", FORMAT, "three bytes a colour", MAGIC + ihdr(kind=3) + chunk(b"PLTE", b"abcd") + idat(b"\0\0\0\0\0\0") + END)
add("png_palette_of_0_bytes", FORMAT, "one colour at least", MAGIC + ihdr(kind=3) + chunk(b"PLTE", b"") + idat(b"\0\0\0\0\0\0") + END)
add("png_palette_of_257", FORMAT, "256 colours at most", MAGIC + ihdr(kind=3) + chunk(b"PLTE", bytes(771)) + idat(b"\0\0\0\0\0\0") + END)
add("png_several_idat", OK, "a stream in pieces", MAGIC + ihdr() + b"".join(chunk(b"IDAT", bytes([b])) for b in zlib.compress(RAW)) + END)
add("png_empty_idat", OK, "a piece of no bytes", MAGIC + ihdr() + chunk(b"IDAT", b"") + idat(RAW) + chunk(b"IDAT", b"") + END)
add("png_idat_apart", FORMAT, "pieces stand together", MAGIC + ihdr() + chunk(b"IDAT", zlib.compress(RAW)[:4]) + chunk(b"tEXt", b"a\0b") +
    chunk(b"IDAT", zlib.compress(RAW)[4:]) + END)
add("png_idat_missing", FORMAT, "IDAT is there", MAGIC + ihdr() + END)
add("png_end_missing", FORMAT, "IEND is there", MAGIC + ihdr() + idat(RAW))
add("png_end_with_data", OK, "as libpng: what is in IEND is skipped", MAGIC + ihdr() + idat(RAW) + chunk(b"IEND", b"abc"))
add("png_bytes_behind_end", OK, "what follows IEND is left alone", GOOD + b"something")
add("png_magic_only", FORMAT, "IHDR is there", MAGIC)
add("png_magic_text_mode", FORMAT, "CR LF in the magic", GOOD.replace(b"\r\n", b"\n", 1))
for n in (9, 20, 24, 30, 33, 40, len(GOOD) - 13, len(GOOD) - 12, len(GOOD) - 5, len(GOOD) - 1):
    add("png_cut_at_%d" % n, FORMAT, "the file is whole", GOOD[:n])
add("png_first_chunk_other", FORMAT, "IHDR comes first", MAGIC + chunk(b"tEXt", b"a\0b") + ihdr() + idat(RAW) + END)
add("png_ihdr_of_12", FORMAT, "IHDR has 13 bytes", MAGIC + chunk(b"IHDR", bytes(12)) + idat(RAW) + END)
add("png_ihdr_twice", FORMAT, "one IHDR", MAGIC + ihdr() + ihdr() + idat(RAW) + END)
add("png_ihdr_crc", FORMAT, "the checksum is right", MAGIC + ihdr()[:-1] + b"\0" + idat(RAW) + END)
add("png_idat_crc", FORMAT, "the checksum is right", MAGIC + ihdr() + chunk(b"IDAT", zlib.compress(RAW), crc=1) + END)
add("png_text_crc", OK, "as libpng: a damaged comment harms no sample", MAGIC + ihdr() + chunk(b"tEXt", b"a\0b", crc=1) + idat(RAW) + END)
add("png_width_0", FORMAT, "a pixel at least", MAGIC + ihdr(0, 2) + idat(RAW) + END)
add("png_height_0", FORMAT, "a pixel at least", MAGIC + ihdr(2, 0) + idat(RAW) + END)
add("png_width_negative", LIMIT, "2^31 - 1 at most", MAGIC + ihdr(-1, 2) + idat(RAW) + END)
add("png_side_at_limit", FORMAT, "65535 is allowed, but not there", MAGIC + ihdr(65535, 1) + idat(RAW) + END)
add("png_side_over_limit", LIMIT, "65535 is the limit", MAGIC + ihdr(65536, 1) + idat(RAW) + END)
add("png_pixels_over_limit", LIMIT, "64,000,000 are the limit", MAGIC + ihdr(8001, 8000) + idat(RAW) + END)
add("png_bomb_sizes", FORMAT, "8000 x 8000 are not in a small file", MAGIC + ihdr(8000, 8000) + idat(RAW) + END)
add("png_bomb_rgba_16", FORMAT, "8 bytes a pixel are not in a small file", MAGIC + ihdr(8000, 8000, 16, 6) + idat(bytes(100000)) + END)
add("png_dense", OK, "zeros deflate by 1,000 to 1", MAGIC + ihdr(2000, 1000, 1) + idat(bytes(251 * 1000)) + END)
add("png_bomb_idat", OK, "no byte behind the last row is inflated", MAGIC + ihdr() + idat(RAW + bytes(4_000_000)) + END)
add("png_bomb_ztxt", OK, "texts are not inflated", MAGIC + ihdr() + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(4_000_000), 9)) + idat(RAW) + END)
add("png_bomb_itxt", OK, "texts are not inflated", MAGIC + ihdr() + chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(4_000_000), 9)) + idat(RAW) + END)
add("png_bomb_iccp", OK, "profiles are not inflated", MAGIC + ihdr() + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(4_000_000), 9)) + idat(RAW) + END)
add("png_many_texts", OK, "chunks are not kept", MAGIC + ihdr() + chunk(b"tEXt", b"a\0b") * 1000 + idat(RAW) + END)
add("png_unknown_chunk", OK, "an ancillary chunk is skipped", MAGIC + ihdr() + chunk(b"heEd", bytes(100)) + idat(RAW) + END)
add("png_critical_chunk", FORMAT, "a critical chunk that is not known", MAGIC + ihdr() + chunk(b"HEED", bytes(100)) + idat(RAW) + END)
add("png_chunk_too_long", FORMAT, "a chunk ends within the file", MAGIC + ihdr() + chunk(b"tEXt", b"a\0b", length=1 << 30) + idat(RAW) + END)
add("png_chunk_length_negative", FORMAT, "2^31 - 1 at most", MAGIC + ihdr() + chunk(b"tEXt", b"a\0b", length=0xffffffff) + idat(RAW) + END)
add("png_chunk_name", FORMAT, "a chunk is named by letters", MAGIC + ihdr() + chunk(b"\0\1\2\3", b"") + idat(RAW) + END)
for depth, kind in ((3, 0), (0, 0), (32, 0), (4, 2), (16, 3), (1, 4), (2, 6), (8, 1), (8, 5), (8, 7)):
    add("png_depth_%d_kind_%d" % (depth, kind), FORMAT, "a combination that does not exist", MAGIC + ihdr(depth=depth, kind=kind) + PLTE + idat(bytes(100)) + END)
add("png_packing", FORMAT, "deflate only", MAGIC + ihdr(packing=1) + idat(RAW) + END)
add("png_filtering", FORMAT, "method 0 only", MAGIC + ihdr(filtering=1) + idat(RAW) + END)
add("png_lacing", FORMAT, "none or Adam7", MAGIC + ihdr(lace=2) + idat(RAW) + END)
for f in range(5):
    add("png_filter_%d" % f, OK, "a filter that exists", MAGIC + ihdr() + idat(bytes([f]) + b"ab" + bytes([f]) + b"cd") + END)
add("png_filter_5", FORMAT, "a filter that does not exist", MAGIC + ihdr() + idat(b"\0ab\5cd") + END)
add("png_rows_missing", FORMAT, "all rows are there", MAGIC + ihdr() + idat(b"\0ab") + END)
add("png_rows_none", FORMAT, "all rows are there", MAGIC + ihdr() + idat(b"") + END)
add("png_rows_one_more", OK, "as libpng: a row too many is left alone", MAGIC + ihdr() + idat(RAW + b"\0ef") + END)
add("png_stream_damaged", FORMAT, "deflate", MAGIC + ihdr() + chunk(b"IDAT", b"\x78\xda\xff\xff\xff\xff") + END)
add("png_stream_no_zlib", FORMAT, "zlib", MAGIC + ihdr() + chunk(b"IDAT", b"abcdefgh") + END)
add("png_stream_checksum", FORMAT, "the sum over the rows is right", MAGIC + ihdr() + chunk(b"IDAT", zlib.compress(RAW)[:-1] + b"\0") + END)
add("png_stream_dictionary", FORMAT, "no dictionary", MAGIC + ihdr() + chunk(b"IDAT", b"\x78\xf9\0\0\0\1" + zlib.compress(RAW)[2:]) + END)

# ---- JPEG ----


def segment(marker, data):
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def huffman(kind, symbol):
    """One symbol, code 0."""
    return segment(0xc4, bytes([kind, 1]) + bytes(15) + bytes([symbol]))


def frame(sof=0xc0, w=8, h=8, depth=8, parts=((1, 0x11, 0),)):
    return segment(sof, struct.pack(">BHHB", depth, h, w, len(parts)) + b"".join(bytes(p) for p in parts))


def scan(parts=(1,), begin=0, end=63, high=0, low=0, data=b"\x3f"):
    return segment(0xda, bytes([len(parts)]) + b"".join(bytes([p, 0]) for p in parts) + bytes([begin, end, high << 4 | low])) + data


START, STOP = b"\xff\xd8", b"\xff\xd9"
QUANT = segment(0xdb, b"\0" + bytes([1] * 64))
HEAD = START + QUANT + huffman(0x00, 0) + huffman(0x10, 0)
FLAT = HEAD + frame() + scan() + STOP                    # one grey block of zeros: bits 0 0, then ones
add("jpeg", OK, "one block", FLAT)
add("jpeg_colour", OK, "three components", HEAD + frame(parts=((1, 0x11, 0), (2, 0x11, 0), (3, 0x11, 0))) + scan((1, 2, 3), data=b"\x03") + STOP)
add("jpeg_420", OK, "chroma halved", golden("420.jpg"))
add("jpeg_progressive", OK, "scan by scan", golden("420_progressive.jpg"))
add("jpeg_restarts", OK, "restart markers", golden("restarts.jpg"))
add("jpeg_exif", OK, "not looked at", golden("exif_turned.jpg"))
add("jpeg_two_components", FORMAT, "1 or 3 components", HEAD + frame(parts=((1, 0x11, 0), (2, 0x11, 0))) + scan((1, 2), data=b"\x0f") + STOP)
FOUR = tuple((i, 0x11, 0) for i in (1, 2, 3, 4))
add("jpeg_cmyk", FORMAT, "colours for printing", HEAD + frame(parts=FOUR) + scan((1, 2, 3, 4), data=b"\0") + STOP)
ADOBE = b"Adobe\0\x64\0\0\0\0"
add("jpeg_cmyk_adobe", FORMAT, "colours for printing", HEAD + segment(0xee, ADOBE + b"\0") + frame(parts=FOUR) + scan((1, 2, 3, 4), data=b"\0") + STOP)
add("jpeg_ycck", FORMAT, "colours for printing", HEAD + segment(0xee, ADOBE + b"\2") + frame(parts=FOUR) + scan((1, 2, 3, 4), data=b"\0") + STOP)
add("jpeg_magic_only", FORMAT, "a frame", b"\xff\xd8\xff")
add("jpeg_no_frame", FORMAT, "a frame", HEAD + STOP)
add("jpeg_no_scan", FORMAT, "a scan", HEAD + frame() + STOP)
add("jpeg_scan_before_frame", FORMAT, "the frame comes first", HEAD + scan() + frame() + STOP)
add("jpeg_frame_twice", FORMAT, "one frame", HEAD + frame() + frame() + scan() + STOP)
add("jpeg_start_twice", FORMAT, "one start", START + HEAD + frame() + scan() + STOP)
add("jpeg_no_quantisation", FORMAT, "a table of each number that is used", START + huffman(0, 0) + huffman(0x10, 0) + frame() + scan() + STOP)
add("jpeg_no_huffman", FORMAT, "a table of each number that is used", START + QUANT + frame() + scan() + STOP)
add("jpeg_huffman_overfull", FORMAT, "codes fit", START + QUANT + segment(0xc4, bytes([0, 3]) + bytes(15) + b"\0\1\2") + huffman(0x10, 0) + frame() + scan() + STOP)
add("jpeg_huffman_too_many", FORMAT, "256 symbols at most", START + QUANT + segment(0xc4, b"\0" + bytes([255] * 16) + bytes(300)) + frame() + scan() + STOP)
add("jpeg_huffman_number", FORMAT, "tables 0 to 3", START + QUANT + segment(0xc4, bytes([9, 1]) + bytes(15) + b"\0") + frame() + scan() + STOP)
add("jpeg_quantisation_number", FORMAT, "tables 0 to 3", START + segment(0xdb, b"\5" + bytes([1] * 64)) + frame() + scan() + STOP)
add("jpeg_segment_of_1", FORMAT, "a length counts itself", START + b"\xff\xdb\0\1" + frame() + scan() + STOP)
add("jpeg_12_bits", FORMAT, "8 bits", HEAD + frame(depth=12) + scan() + STOP)
add("jpeg_lossless", FORMAT, "not read", HEAD + frame(0xc3) + scan() + STOP)
add("jpeg_hierarchical", FORMAT, "not read", HEAD + frame(0xc5) + scan() + STOP)
add("jpeg_arithmetic", FORMAT, "Huffman only", HEAD + frame(0xc9) + scan() + STOP)
add("jpeg_arithmetic_progressive", FORMAT, "Huffman only", HEAD + frame(0xca) + scan(end=0) + STOP)
add("jpeg_width_0", FORMAT, "a pixel at least", HEAD + frame(w=0) + scan() + STOP)
add("jpeg_height_0", FORMAT, "a height that follows the scan is not read", HEAD + frame(h=0) + scan() + STOP)
add("jpeg_sampling_0", FORMAT, "1 to 4", HEAD + frame(parts=((1, 0x01, 0),)) + scan() + STOP)
add("jpeg_sampling_5", FORMAT, "1 to 4", HEAD + frame(parts=((1, 0x51, 0),)) + scan() + STOP)
add("jpeg_component_unknown", FORMAT, "a scan names components of the frame", HEAD + frame() + scan((7,)) + STOP)
add("jpeg_component_without_scan", FORMAT, "all components", HEAD + frame(parts=((1, 0x11, 0), (2, 0x11, 0), (3, 0x11, 0))) + scan((1,)) + scan((2,)) + STOP)
add("jpeg_components_apart", OK, "a scan each", HEAD + frame(parts=((1, 0x11, 0), (2, 0x11, 0), (3, 0x11, 0))) + scan((1,)) + scan((2,)) + scan((3,)) + STOP)
add("jpeg_bomb_sizes", FORMAT, "8000 x 8000 are not in a small file", HEAD + frame(w=8000, h=8000) + scan() + STOP)
add("jpeg_bomb_progressive", FORMAT, "8000 x 8000 are not in a small file", HEAD + frame(0xc2, 8000, 8000) + scan(end=0, data=b"\x7f") + STOP)
add("jpeg_pixels_over_limit", LIMIT, "64,000,000 are the limit", HEAD + frame(w=8001, h=8000) + scan() + STOP)
add("jpeg_side_over_limit", LIMIT, "libjpeg's own limit is 65500", HEAD + frame(w=65501, h=1) + scan() + STOP)
add("jpeg_bytes_behind_end", OK, "what follows the end is left alone", FLAT + b"something")
add("jpeg_end_missing", FORMAT, "the file is whole", FLAT[:-2])
for name in ("420", "420_progressive"):
    whole = golden(name + ".jpg")
    for part in (3, 10, 50, 90):
        add("jpeg_%s_cut_at_%d_percent" % (name, part), FORMAT, "the file is whole", whole[:len(whole) * part // 100])
damaged = bytearray(golden("444.jpg"))
at = damaged.rindex(b"\xff\xda") + 40
damaged[at:at + 30] = bytes(30)
add("jpeg_damaged", FORMAT, "no warning", bytes(damaged))
damaged = golden("restarts.jpg")
add("jpeg_restart_wrong", FORMAT, "restart markers in order", damaged.replace(b"\xff\xd1", b"\xff\xd5", 1))


def progressive(n):
    """n scans, all legal: DC, 63 coefficients without the last bit, then the last bits one by one."""
    scans = [scan(end=0, data=b"\x7f")] + [scan(begin=k, end=k, low=1, data=b"\x7f") for k in range(1, 64)]
    scans += [scan(begin=k, end=k, high=1, data=b"\x7f") for k in range(1, 64)]
    return HEAD + frame(0xc2) + b"".join(scans[:n]) + STOP


add("jpeg_scans_at_limit", OK, "100 are allowed", progressive(100))
add("jpeg_scans_over_limit", LIMIT, "100 are the limit", progressive(101))
add("jpeg_bomb_scans", LIMIT, "100 are the limit", HEAD + frame(0xc2, 64, 64) + scan(end=0, data=b"\0" * 8) +
    scan(begin=1, low=1, data=b"\0" * 8) * 2000 + STOP)

with open(os.path.join(here, "corpus", "image.tsv"), "w") as f:
    f.write("# Written by tools/corpus/image.py: file, code, why.\n")
    for r in sorted(rows):
        f.write("\t".join(r) + "\n")
print(len(rows), "files,", sum(os.path.getsize(os.path.join(folder, r[0])) for r in rows), "bytes")
