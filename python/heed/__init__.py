"""heed: neural networks with attention: train, run, and see where they look.

    run = heed.open("runs/fashion")                  a trained run: predict, evaluate, explain
    heed.train("recipes/fashion-attention.yaml", out="runs/fashion")
    heed.attend(q, k, v, causal=True, probe="entropy")   the attention operator on NumPy arrays
    heed.torch.attention(q, k, v, causal=True)           the same on PyTorch tensors, with gradients

The library is C and needs no Python; this package calls it through its public headers and needs NumPy alone.
docs/python.md is the manual.
"""
from . import _c
from ._attention import Attended, attend
from ._library import KINDS, Context, Error, default_context, lib, text
from ._runs import open_run as open
from ._runs import Evaluation, Explanation, Predictions, Run, metrics, train

__version__ = _c.HEED_VERSION
version = __version__

globals().update({k.__name__: k for k in KINDS.values()})
__all__ = ["Attended", "Context", "Error", "Evaluation", "Explanation", "Predictions", "Run", "attend",
           "default_context", "features",
           "metrics", "open", "train", "version"]
__all__ += [k.__name__ for k in KINDS.values()]


def features():
    """{"png": "1.6.39", "npz": None, ...}: optional libraries of this build and their versions, None where
    one is missing."""
    out, i = {}, 0
    rows = lib.heed_features()
    while rows[i].name:
        out[text(rows[i].name)] = text(rows[i].version) if rows[i].present else None
        i += 1
    return out


def __getattr__(name):
    if name == "torch":                  # only who asks for it needs PyTorch
        import importlib
        return importlib.import_module(".torch", __name__)
    raise AttributeError("module 'heed' has no attribute %r" % name)
