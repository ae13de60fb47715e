#!/usr/bin/env python3
"""Writes tests/corpus/idx/* and their table, tests/corpus/idx.tsv: file, code, why.

One small file for each rule of IDX and of gzip around it, to accept and to reject, named for the rule. tests/idx_test.c
reads each: the code must be the one of the table.   tools/corpus/idx.py
"""
import os
import shutil
import struct
import zlib

here = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "corpus")
folder = os.path.join(here, "idx")
rows = []
OK, FORMAT, LIMIT, DTYPE = "OK", "FORMAT", "LIMIT", "DTYPE"


def add(name, code, why, blob):
    assert name not in [r[0] for r in rows], name
    rows.append((name, code, why))
    with open(os.path.join(folder, name), "wb") as f:
        f.write(blob)


def idx(*sizes, data=None, dtype=8, rank=None, first=0, second=0):
    n = 1
    for s in sizes:
        n *= s
    head = bytes([first, second, dtype, len(sizes) if rank is None else rank]) + b"".join(struct.pack(">I", s) for s in sizes)
    return head + (bytes(i % 251 for i in range(n)) if data is None else data)


def gz(plain, level=9, name=None, method=8, flags=0, crc=None, length=None):
    z = zlib.compressobj(level, zlib.DEFLATED, -15)
    body = z.compress(plain) + z.flush()
    if name is not None:
        flags |= 8
    head = bytes([0x1f, 0x8b, method, flags]) + bytes(4) + b"\2\xff" + (name.encode() + b"\0" if name is not None else b"")
    return head + body + struct.pack("<II", zlib.crc32(plain) if crc is None else crc, (len(plain) if length is None else length) & 0xffffffff)


shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)

# ---- plain ----
add("labels", OK, "one dimension", idx(5))
add("pictures", OK, "three dimensions", idx(4, 3, 2))
add("rank_8", OK, "8 dimensions", idx(1, 2, 1, 2, 1, 2, 1, 2))
add("no_records", OK, "no records", idx(0, 28, 28))
add("empty_records", OK, "records of no bytes", idx(3, 0))
add("no_bytes", FORMAT, "a header has 4 bytes at least", b"")
add("three_bytes", FORMAT, "a header has 4 bytes at least", b"\0\0\x08")
add("magic_only", FORMAT, "the sizes are missing", b"\0\0\x08\1")
add("first_byte", FORMAT, "two zero bytes", idx(2, first=1))
add("second_byte", FORMAT, "two zero bytes", idx(2, second=1))
for code, what in ((0, "none"), (7, "unknown"), (9, "i8"), (11, "i16"), (12, "i32"), (13, "f32"), (14, "f64"), (255, "ff")):
    add("dtype_" + what, DTYPE, "unsigned bytes only", idx(2, dtype=code))
add("rank_0", FORMAT, "one dimension at least", idx(rank=0, data=b"\1"))
add("rank_9", LIMIT, "8 dimensions at most", idx(*[1] * 9))
add("rank_255", LIMIT, "8 dimensions at most", idx(1, rank=255))
add("sizes_cut_off", FORMAT, "all sizes are there", idx(4, 3, 2, data=b"")[:-1])
add("sizes_missing", FORMAT, "all sizes are there", idx(1, rank=3))
add("data_missing", FORMAT, "as many bytes as the sizes say", idx(4, 3, data=bytes(0)))
add("data_one_short", FORMAT, "as many bytes as the sizes say", idx(4, 3, data=bytes(11)))
add("data_one_more", FORMAT, "as many bytes as the sizes say", idx(4, 3, data=bytes(13)))
add("data_for_no_records", FORMAT, "no records have no bytes", idx(0, 3, data=b"\0"))
add("sizes_lie", FORMAT, "4 GiB are not in a small file", struct.pack(">BBBBII", 0, 0, 8, 2, 65536, 65535) + b"\0")
add("sizes_overflow", FORMAT, "the product overflows", struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1))
add("sizes_overflow_behind_zero", FORMAT, "strides overflow", struct.pack(">BBBBIIII", 0, 0, 8, 4, 0, 2**32 - 1, 2**32 - 1, 2**32 - 1))
add("sizes_wrap_to_fit", FORMAT, "2^32 * 2^32 is not 0", struct.pack(">BBBBIIII", 0, 0, 8, 4, 2**31, 2**31, 4, 1))

# ---- gzip ----
add("gzip", OK, "deflated", gz(idx(4, 3, 2)))
add("gzip_stored", OK, "stored", gz(idx(4, 3, 2), level=0))
add("gzip_named", OK, "with a file name", gz(idx(4, 3, 2), name="pictures"))
add("gzip_no_records", OK, "no records", gz(idx(0, 28, 28)))
add("gzip_dense", OK, "zeros deflate by 1,000 to 1", gz(idx(100, 1000, data=bytes(100000))))
add("gzip_magic_only", FORMAT, "4 bytes at least", b"\x1f\x8b")
add("gzip_header_cut_off", FORMAT, "the stream is whole", gz(idx(4))[:8])
add("gzip_method", FORMAT, "method 8 only", gz(idx(4), method=7))
add("gzip_reserved_flag", FORMAT, "reserved flags are 0", gz(idx(4), flags=0x80))
add("gzip_cut_off", FORMAT, "the stream is whole", gz(idx(40, 3))[:-12])
add("gzip_trailer_cut_off", FORMAT, "the stream is whole", gz(idx(40, 3))[:-1])
add("gzip_crc", FORMAT, "the checksum is right", gz(idx(4), crc=1))
add("gzip_length", FORMAT, "the length is right", gz(idx(4), length=1))
add("gzip_bytes_behind", FORMAT, "nothing stands behind the stream", gz(idx(4)) + b"\0")
add("gzip_two_streams", FORMAT, "one stream", gz(idx(4)) + gz(b""))
add("gzip_bad_block", FORMAT, "block type 3 does not exist", gz(idx(4))[:10] + b"\x07" + bytes(12))
add("gzip_no_data", FORMAT, "a header has 4 bytes at least", gz(b""))
add("gzip_magic_cut_off", FORMAT, "a header has 4 bytes at least", gz(b"\0\0\x08"))
add("gzip_sizes_cut_off", FORMAT, "all sizes are there", gz(idx(4, 3, data=b"")[:-1]))
add("gzip_first_byte", FORMAT, "two zero bytes", gz(idx(2, first=1)))
add("gzip_dtype", DTYPE, "unsigned bytes only", gz(idx(2, dtype=13)))
add("gzip_rank_0", FORMAT, "one dimension at least", gz(idx(rank=0, data=b"\1")))
add("gzip_rank_9", LIMIT, "8 dimensions at most", gz(idx(*[1] * 9)))
add("gzip_data_short", FORMAT, "as many bytes as the sizes say", gz(idx(4, 3, data=bytes(11))))
add("gzip_data_more", FORMAT, "as many bytes as the sizes say", gz(idx(4, 3, data=bytes(13))))
add("gzip_bomb", FORMAT, "no byte more than the sizes say is inflated", gz(idx(4, 3, data=bytes(10000000))))
add("gzip_sizes_lie", FORMAT, "a small file cannot hold 4 GiB", gz(struct.pack(">BBBBII", 0, 0, 8, 2, 65536, 65535) + bytes(9)))
add("gzip_sizes_lie_less", FORMAT, "as many bytes as the sizes say", gz(idx(1000, 10, data=bytes(9))))
add("gzip_in_gzip", FORMAT, "one layer", gz(gz(idx(4))))

with open(os.path.join(here, "idx.tsv"), "w") as f:
    f.write("# Written by tools/corpus/idx.py: file, code, why.\n")
    for r in sorted(rows):
        f.write("\t".join(r) + "\n")
print(len(rows), "files,", sum(r[1] == OK for r in rows), "to accept")
