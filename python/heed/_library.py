"""The shared library: where it is, how its functions are called, how its errors become exceptions.

Every function of the headers is an attribute of `lib` under its own name, with the types that the headers
give it. One that ends in a heed_error takes no such argument here: it raises what went wrong, with the
library's own sentence.
"""
import ctypes
import os
import threading
import weakref
from ctypes import byref

from . import _c

_HERE = os.path.dirname(os.path.abspath(__file__))


class Error(Exception):
    """What the library refuses. `code` is "HEED_ERR_SHAPE" and so on, `path` the node or file concerned, or
    ""."""
    code, path = "", ""


def _kind(name, base, doc):
    return type(name, (Error, base), {"__doc__": doc, "__module__": "heed"})


KINDS = {
    "HEED_ERR_MEMORY": _kind("OutOfMemory", MemoryError,
                             "An allocation failed or would pass the context's limit."),
    "HEED_ERR_USAGE": _kind("UsageError", ValueError, "The call is wrong."),
    "HEED_ERR_SHAPE": _kind("ShapeError", ValueError, "Sizes do not fit together."),
    "HEED_ERR_DTYPE": _kind("DtypeError", TypeError, "Element types do not fit together."),
    "HEED_ERR_SPEC": _kind("SpecError", ValueError, "A combination of options that has no meaning."),
    "HEED_ERR_FORMAT": _kind("FormatError", ValueError, "A file breaks a rule of its format."),
    "HEED_ERR_LIMIT": _kind("LimitError", ValueError, "A number is outside what is allowed."),
    "HEED_ERR_IO": _kind("FileError", OSError, "The operating system refused to read or write."),
    "HEED_ERR_EXISTS": _kind("ExistsError", FileExistsError,
                             "The output exists and overwriting was not asked for."),
    "HEED_ERR_MISSING": _kind("MissingError", NotImplementedError, "Not built into this library."),
    "HEED_ERR_DEVICE": _kind("DeviceError", RuntimeError, "This machine cannot do it."),
    "HEED_ERR_NUMERIC": _kind("NumericError", ArithmeticError, "A number became NaN or infinite."),
    "HEED_ERR_STOPPED": _kind("Stopped", RuntimeError, "The caller asked to stop."),
    "HEED_ERR_BUG": _kind("BugError", RuntimeError, "A rule inside heed was broken: please report it."),
}


def error(code, text, path=""):
    if path and path not in text:
        text += " (%s)" % path
    e = KINDS.get(code, Error)(text)
    e.code, e.path = code, path
    return e


def _find():
    given = os.environ.get("HEED_LIBRARY")
    ours = [os.path.join(_HERE, n) for n in ("libheed.so", "libheed.dylib", "heed.dll")]
    names = [given] if given else ours
    for name in names:
        if os.path.exists(name):
            return name
    raise ImportError("heed: there is no %s; `make wheel` builds one, or HEED_LIBRARY names it" % names[0])


class _Library:
    def __init__(self):
        self.path = _find()
        self._dll = ctypes.CDLL(self.path)

    def __getattr__(self, name):
        if name not in _c.FUNCTIONS:
            raise AttributeError("the headers have no function %s" % name)
        row = _c.FUNCTIONS[name]
        f = getattr(self._dll, name)
        f.restype, f.argtypes = row[0], row[1:]
        if row[0] is ctypes.c_int and row[-1] is ctypes.POINTER(_c.heed_error):
            f = self._checked(f)
        setattr(self, name, f)
        return f

    def _checked(self, f):
        def call(*args):
            err = _c.heed_error()
            status = f(*args, byref(err))
            if status:
                code = self.heed_status_name(status).decode()
                raise error(code, text(err.text) or code, text(err.path))
        return call


def text(b):
    return b.decode("utf-8", "replace") if b else ""


lib = _Library()


def _after_fork():
    """Threads do not survive a fork: what the parent made stays the parent's, and the child begins anew."""
    global _default, _default_lock
    _default, _default_lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Handle:
    """A pointer of the library with the function that frees it, called once: by close(), or when nobody has
    the object any more. `keeps` are objects that must live as long."""

    def __init__(self, pointer, free, *keeps):
        self.pointer = pointer
        self._end = weakref.finalize(self, _free, pointer, free, os.getpid(), keeps)
        self._end.atexit = False                 # a process that ends gives everything back at once

    def close(self):
        self._end()
        self.pointer = None


def _free(pointer, free, pid, keeps):
    if os.getpid() == pid:
        free(pointer)


def made(kind, new, free, *args, keeps=()):
    """Calls new(&pointer, args...) and wraps what it made."""
    p = ctypes.POINTER(kind)()
    new(byref(p), *args)
    return Handle(p, free, *keeps)


class Context:
    """A pool of threads, an instruction level and limits: heed_context. Most programs need none of their own,
    since every function takes heed.default_context() when it is given none.

    threads       0: one for each CPU
    isa           "auto", "portable", "x86-64-v3", "x86-64-v4", "neon"
    memory_bytes  the most that may be in use at one time; 0: no limit
    """

    def __init__(self, threads=0, isa="auto", memory_bytes=0):
        level = ctypes.c_int(0)
        if isa != "auto":
            lib.heed_isa_from_name(byref(level), isa.encode())
        opts = _c.heed_context_opts(threads=threads, isa=level.value)
        opts.limits.memory_bytes = memory_bytes
        self.handle = made(_c.heed_context, lib.heed_context_new, lib.heed_context_free, byref(opts))
        self.lock = threading.RLock()            # of what attend() keeps in it
        self.plans = None

    @property
    def pointer(self):
        return self.handle.pointer

    @property
    def threads(self):
        return lib.heed_context_threads(self.pointer)

    @property
    def isa(self):
        return text(lib.heed_isa_name(lib.heed_context_isa(self.pointer)))

    @property
    def bytes(self):
        """Bytes in use now, of the library's own; arrays of NumPy are not among them."""
        return lib.heed_context_bytes(self.pointer)

    @property
    def peak_bytes(self):
        return lib.heed_context_peak_bytes(self.pointer)

    def reset_peak(self):
        lib.heed_context_peak_reset(self.pointer)

    def __repr__(self):
        return "heed.Context(threads=%d, isa=%r)" % (self.threads, self.isa)


_default = None
_default_lock = threading.Lock()


def default_context():
    """The context that is used where none is given: all CPUs (or HEED_THREADS), the best level (or
    HEED_ISA)."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Context(int(os.environ.get("HEED_THREADS") or 0), os.environ.get("HEED_ISA") or "auto")
        return _default


def take_text(context, pointer):
    """A text made by the library, which is given back to it."""
    try:
        return text(ctypes.string_at(pointer)) if pointer else ""
    finally:
        lib.heed_text_free(context.pointer, pointer)
