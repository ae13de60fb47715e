"""Types and tensors between NumPy and the library. Data are never copied here: a tensor holds the array's
address."""
import ctypes

import numpy as np

from . import _c
from ._library import error

DTYPES = {                               # NumPy has no bfloat16
    np.dtype(np.float32): _c.HEED_F32, np.dtype(np.float64): _c.HEED_F64, np.dtype(np.float16): _c.HEED_F16,
    np.dtype(np.int64): _c.HEED_I64, np.dtype(np.int32): _c.HEED_I32, np.dtype(np.uint8): _c.HEED_U8,
    np.dtype(np.bool_): _c.HEED_BOOL,
}
NUMPY = {v: k for k, v in DTYPES.items()}


def type_of(dtype, shape):
    """heed_type of a heed dtype and sizes."""
    if len(shape) > _c.HEED_MAX_RANK:
        raise error("HEED_ERR_SHAPE", "a tensor has at most %d dimensions, not %d"
                    % (_c.HEED_MAX_RANK, len(shape)))
    t = _c.heed_type(dtype=dtype, rank=len(shape))
    t.dims[:len(shape)] = list(shape)
    return t


def shape_of(t):
    return tuple(t.dims[:t.rank])


def address(a):
    return a.__array_interface__["data"][0]


def tensor(a):
    """heed_tensor over a dense array, which must outlive it."""
    if not a.flags.c_contiguous:
        raise error("HEED_ERR_SHAPE",
                    "an array must be dense and row-major: numpy.ascontiguousarray(a) makes it so")
    if a.dtype not in DTYPES:
        raise error("HEED_ERR_DTYPE", "heed has no tensors of %s" % a.dtype)
    return _c.heed_tensor(type=type_of(DTYPES[a.dtype], a.shape), data=address(a))


def empty(t):
    return np.empty(shape_of(t), NUMPY[t.dtype])


def copied(pointer, shape, dtype):
    """A NumPy copy of memory that the library owns."""
    n = int(np.prod(shape, dtype=np.int64))
    out = np.empty(shape, dtype)
    if n:
        ctypes.memmove(address(out), pointer, out.nbytes)
    return out
