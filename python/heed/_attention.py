"""attend(): the attention operator on NumPy arrays."""
import json

import numpy as np

from . import _c, _plans, _spec
from ._library import default_context, error
from ._tensors import DTYPES, NUMPY, address, shape_of

FLOAT, INTEGER, BOOL = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.bool_)
KINDS = {"f": FLOAT, "i": INTEGER, "b": BOOL}


def dense(name, value):
    """value as a dense array of a dtype that attention takes: itself when it is one, else a copy."""
    a = np.asarray(value)
    want = KINDS[_spec.kept_as(name, {"u": "i"}.get(a.dtype.kind, a.dtype.kind), a.dtype)]
    return np.ascontiguousarray(a, want) if a.ndim else a.astype(want)


class Call:
    """Arrays and spec of one call, as the operator wants them: four dimensions."""

    def __init__(self, q, k, v, spec, probe, names, context):
        self.context = context or default_context()
        arrays = {"q": dense("q", q), "k": dense("k", k), "v": dense("v", v)}
        self.rank = arrays["q"].ndim
        for a in arrays.values():
            if a.ndim != self.rank or not 2 <= a.ndim <= 4:
                raise error("HEED_ERR_SHAPE", "attention: q, k and v are all [T,D], all [H,T,D] or all [B,H,T,D]; "
                            "their shapes are %s" % ", ".join(str(a.shape) for a in arrays.values()))
        arrays = {n: a.reshape((1,) * (4 - a.ndim) + a.shape) for n, a in arrays.items()}
        spec, tensors = _spec.merge(spec, names)
        spec, tensors = _spec.split(spec, tensors, probe)
        for name, value in tensors.items():
            if name not in _spec.TENSORS:
                _spec.unknown("", name, _spec.TENSORS)
            a = dense(name, value)
            if name in ("q2", "k2"):
                a = a.reshape((1,) * (4 - self.rank) + a.shape)
            if name in _spec.FULL and a.ndim < 4:
                a = a.reshape((1,) * (4 - a.ndim) + a.shape)
            arrays[name] = a
        self.arrays, self.spec = arrays, spec
        key = json.dumps(spec, sort_keys=True, default=plain)
        self.problem = _plans.Problem({n: (DTYPES[a.dtype], a.shape) for n, a in arrays.items()}, spec, key)

    def run(self, key, build, extra, problem=None):
        """Runs the plan of that key; gives {name: array} of its outputs."""
        key = ((problem or self.problem).key, key)
        with self.context.lock:
            shared = _plans.shared(self.context)
            plan = shared.find(key, build)
            given = dict(self.arrays, **extra)
            for name, took in zip(plan.inputs, plan.took):
                if given[name].shape != shape_of(took.type):
                    raise error("HEED_ERR_SHAPE", "attention: %s has shape %s; it must be %s"
                                % (name, given[name].shape, shape_of(took.type)))
            out = {n: np.empty(shape, NUMPY[t]) for n, (t, shape) in zip(plan.outputs, plan.types)}
            shared.run(plan, [address(given[n]) for n in plan.inputs], [address(a) for a in out.values()])
            return out

    def forward(self, weights):
        return self.run(("forward", weights), self.problem.forward(("weights",) if weights else ()), {})

    def pooled(self, a, c):
        """Means of the first sequence's weights over blocks a x c, made inside the operator."""
        spec = dict(self.spec, probe={"pooled": [a, c]})
        problem = _plans.Problem(self.problem.shapes, spec, json.dumps(spec, sort_keys=True, default=plain))
        return self.run(("pooled",), problem.only("pooled"), {}, problem)["pooled"][0]

    def gradient(self, upstream):
        by = [n for n in self.problem.names if self.arrays[n].dtype == FLOAT]
        given = tuple(n for n in _plans.UPSTREAM if n in upstream)
        if not given:
            raise error("HEED_ERR_USAGE", "attention: a gradient needs dout, dweights or dlse")
        extra = {}
        for name in given:
            a = dense("d" + name, upstream[name])
            full = 3 if name == "lse" else 4
            extra["d" + name] = a.reshape((1,) * (full - a.ndim) + a.shape)
        got = self.run(("gradient", given, tuple(by)), self.problem.gradient(given, by), extra)
        return {n[2:]: self.narrow(n[2:], a) for n, a in got.items()}

    def narrow(self, name, a):
        """Without the dimensions that the caller did not give."""
        drop = 4 - self.rank
        ours = name in _plans.ATTENDED or name in ("q", "k", "v", "q2", "k2")
        return a.reshape(a.shape[drop:]) if ours else a


def plain(x):
    """What json cannot write."""
    return x.tolist() if hasattr(x, "tolist") else repr(x)


class Attended:
    """What attention gave.

    out       like q, with v's width
    lse       the logarithm of each row's denominator, None where it is not defined
    weights   None unless asked for
    others    the probes asked for: rows, topk_values, topk_indices, pooled, received, entropy, distance, mean
    grad      {"q": ..., "k": ..., "bias": ...} when an upstream gradient was given

    In a notebook it shows the map of every head; `save(path)` writes the same as a page.
    """

    def __init__(self, call, got, grad):
        self._call, self._got, self.grad = call, got, grad

    def __getattr__(self, name):
        if name.startswith("_") or name not in _plans.ATTENDED:
            raise AttributeError("heed.Attended has no %s" % name)
        return self._got.get(name)

    def __dir__(self):
        return list(super().__dir__()) + list(self._got)

    def backward(self, dout=None, dweights=None, dlse=None):
        """Gradients by every floating input: {"q": dq, "k": dk, "v": dv, "bias": ...}. The loss is <out,
        dout> + <weights, dweights> + <lse, dlse>."""
        up = {"out": dout, "weights": dweights, "lse": dlse}
        return self._call.gradient({n: a for n, a in up.items() if a is not None})

    def map(self, most=64):
        """Weights for looking at, float32 [heads, rows, columns] of the first sequence: themselves, or means
        over blocks so that no side is longer than `most`."""
        from ._map import blocks
        return blocks(self, most)

    def _repr_html_(self):
        from ._map import html
        return html(self)

    def save(self, path):
        """Writes the map as a page that needs nothing else."""
        from ._map import page
        with open(path, "w", encoding="utf-8") as f:
            f.write(page(self))

    def __repr__(self):
        return "heed.Attended(%s)" % ", ".join("%s%s" % (n, list(a.shape)) for n, a in self._got.items())


def attend(q, k, v, spec=None, *, probe=None, weights=False, dout=None, dweights=None, dlse=None,
           context=None, **names):
    """Attention of queries q on keys k with values v: NumPy arrays [T,D], [H,T,D] or [B,H,T,D], float32.

    spec      an object of the form docs/attention.md describes, {"mask": {"causal": True}}
    names     fields and tensors by name: causal=True, window=[4, 0], softcap=30.0, lengths=[5, 3], bias=array
    probe     "entropy,received,topk:4", or an object: what to report beside the result
    weights   True: all weights [..., Tq, Tk]
    dout, dweights, dlse   upstream gradients: the result has `grad`

    Dense float32 arrays are read where they lie, and results are written into new arrays once; anything else
    is converted first. Lists are arrays. Raises heed.SpecError, ShapeError and so on with a sentence that
    names the field.
    """
    call = Call(q, k, v, spec, probe, names, context)
    got = {n: call.narrow(n, a) for n, a in call.forward(bool(weights)).items()}
    up = {"out": dout, "weights": dweights, "lse": dlse}
    up = {n: a for n, a in up.items() if a is not None}
    return Attended(call, got, call.gradient(up) if up else None)
