#!/usr/bin/env python3
"""Writes tests/golden/npy/*.npy with numpy.save: what heed_npy_write must give byte for byte.   tools/corpus/npy.py

Element i of every array, in the order in memory, is i modulo 7 (bool: modulo 2). Made with NumPy 2.4.6.
"""
import os

import numpy

folder = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "npy")
cases = [
    ("f32_2x3", "<f4", (2, 3)),
    ("f64_scalar", "<f8", ()),
    ("f16_5", "<f2", (5,)),
    ("bf16_as_f32_4", "<f4", (4,)),
    ("i64_9", "<i8", (9,)),
    ("i32_0x4", "<i4", (0, 4)),
    ("u8_rank8", "|u1", (1, 2, 1, 2, 1, 2, 1, 3)),
    ("bool_3x1", "|b1", (3, 1)),
]
os.makedirs(folder, exist_ok=True)
for name, dtype, shape in cases:
    count = int(numpy.prod(shape, dtype=numpy.int64))
    values = numpy.arange(count) % (2 if dtype == "|b1" else 7)
    numpy.save(os.path.join(folder, name + ".npy"), values.astype(dtype).reshape(shape))
