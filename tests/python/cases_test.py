"""Every attention case of a folder through heed.attend, and through heed.torch where PyTorch is there:
results, gradients, probes within the case's tolerance; what must be refused is refused. So the spec of every
case is understood.

    cases_test.py FOLDER
"""
import glob
import json
import os
import struct
import sys

import numpy as np

import heed
from heed import _spec

TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32, "U8": np.uint8,
         "BOOL": np.bool_}
UPSTREAM = ("dout", "dweights", "dlse")


def read(path):
    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(size))
        data = f.read()
    meta = head.pop("__metadata__")
    return meta, {k: np.frombuffer(data[slice(*v["data_offsets"])], TYPES[v["dtype"]]).reshape(v["shape"])
                  for k, v in head.items()}


def share(got, want, meta):
    """The largest error as a share of what is allowed; more than 1 is bad."""
    if got is None or got.shape != want.shape:
        return np.inf
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(got, want) else np.inf
    lowest = np.isneginf(want)
    if not np.array_equal(np.isneginf(got), lowest) or not np.isfinite(got[~lowest]).all():
        return np.inf
    got, want = np.float64(got[~lowest]), np.float64(want[~lowest])
    if not want.size:
        return 0.0
    allowed = float(meta["atol"]) * max(1, np.abs(want).max()) + float(meta["rtol"]) * np.abs(want)
    return float((np.abs(got - want) / allowed).max())


def with_numpy(t, spec, weights):
    tensors = {n: t[n] for n in t if n in _spec.TENSORS}
    r = heed.attend(t["q"], t["k"], t["v"], spec, weights=weights, **tensors,
                    **{n: t[n] for n in UPSTREAM if n in t})
    return {n: getattr(r, n) for n in r._got}, r.grad or {}


def with_torch(t, spec, weights):
    import torch

    import heed.torch as ht
    tensors = {n: torch.from_numpy(t[n].copy()) for n in t if n in _spec.TENSORS + ("q", "k", "v")}
    for x in tensors.values():
        x.requires_grad_(x.is_floating_point())
    out, seen = ht.attention(tensors["q"], tensors["k"], tensors["v"], spec, weights=True,
                             **{n: x for n, x in tensors.items() if n not in ("q", "k", "v")})
    got = dict(vars(seen), out=out)
    loss = sum((x.masked_fill(x.isneginf(), 0) * torch.from_numpy(t["d" + n].copy())).sum()
               for n, x in got.items() if "d" + n in t and "d" + n in UPSTREAM)
    loss.backward()
    return ({n: x.detach().numpy() for n, x in got.items()},
            {n: x.grad.numpy() for n, x in tensors.items() if x.grad is not None})


def main(folder):
    ways = [("numpy", with_numpy)]
    try:
        import torch  # noqa: F401
        ways.append(("torch", with_torch))
    except ImportError:
        print("torch is missing: the cases run through NumPy alone")
    bad = tensors = refusals = cases = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        meta, t = read(path)
        name = os.path.basename(path)[:-12]
        cases += 1
        for way, run in ways:
            try:
                got, grad = run(t, json.loads(meta["spec"]), "weights" in t)
            except heed.Error as e:
                refusals += 1
                if meta["expect"] != "refused":
                    bad += 1
                    print("BAD  %s (%s): %s" % (name, way, e))
                continue
            if meta["expect"] == "refused":
                bad += 1
                print("BAD  %s (%s) was not refused" % (name, way))
                continue
            for n in t:
                if n.startswith("d_"):
                    x = grad.get(n[2:])
                elif n.startswith("probe_"):
                    x = got.get(n[6:])
                elif n in ("out", "lse", "lse2", "weights"):
                    x = got.get(n)
                else:
                    continue
                tensors += 1
                s = share(x, t[n], meta)
                if not s <= 1:
                    bad += 1
                    print("BAD  %s (%s): %s is off by %.3g of what is allowed" % (name, way, n, s))
    print("%d cases in %d ways: %d tensors agree, %d refusals, %d bad"
          % (cases, len(ways), tensors - bad, refusals, bad))
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
