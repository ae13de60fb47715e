"""A peer's side of the side-by-side benchmark: stays warm between rounds and does what JSON lines on stdin say.

  peer.py NAME THREADS               NAME: pytorch, flex or onnxruntime
  peer.py NAME THREADS --memory CASE the most memory one run takes beyond inputs, outputs and gradients

Requests: {"do": "open", "case": {..}, "file": F}, {"do": "time", "seconds": s}, {"do": "close"}, {"do": "versions"}. A case
is computed from heed's inputs in F and compared with heed's outputs in F before anything is timed.
"""
import ctypes
import gc
import json
import struct
import sys
import time

import numpy as np

WINDOW, GLOBALS, BLOCK = 256, 4, 64


def read_safetensors(path):
    """Names and arrays of a file: 8 bytes of length, a JSON head, data."""
    kinds = {"F32": np.float32, "I64": np.int64, "BOOL": np.bool_}
    with open(path, "rb") as f:
        size, = struct.unpack("<Q", f.read(8))
        head = json.loads(f.read(size))
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            dtype = np.dtype(kinds[t["dtype"]])
            flat = np.fromfile(path, dtype, (end - begin) // dtype.itemsize, offset=8 + size + begin)
            out[name] = flat.reshape(t["shape"])
    return out


def made_up(case):
    """Inputs of the right shapes where only memory is measured."""
    b, h, t, d = case["size"]
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.random(shape, np.float32) * 2 - 1
    if case["kind"].startswith("layer"):
        e = h * d
        return {"x": draw(b, t, e), "dout": draw(b, t, e), "layer.in_proj_weight": draw(3 * e, e) / 20,
                "layer.in_proj_bias": draw(3 * e), "layer.out_proj.weight": draw(e, e) / 20, "layer.out_proj.bias": draw(e)}
    return {name: draw(b, h, t, d) for name in ("q", "k", "v", "dout")}


def keep_of(kind, t):
    """The mask [T,T] of a kind, or None."""
    i, j = np.arange(t)[:, None], np.arange(t)[None, :]
    if kind == "window 256":
        return (j <= i) & (i - j < WINDOW)
    if kind == "window 256 and globals":
        return (j <= i) & ((i - j < WINDOW) | (j < GLOBALS) | (i < GLOBALS))
    if kind == "block 64":
        return (i // BLOCK == j // BLOCK) | ((5 * (i // BLOCK) + j // BLOCK) % 8 == 0)
    return None


def alibi_of(heads, t):
    """-m_h |i - j| with the slopes of Press 2022 for a power of two of heads."""
    slopes = 2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)
    distance = np.abs(np.arange(t)[:, None] - np.arange(t)[None, :])
    return (-slopes[:, None, None] * distance).astype(np.float32)[None]


class Torch:
    """scaled_dot_product_attention, and nn.MultiheadAttention for layers: eager, which is its fastest here."""

    def __init__(self, threads):
        import torch
        self.torch = torch
        torch.set_num_threads(threads)

    def versions(self):
        return {"torch": self.torch.__version__, "numpy": np.__version__}

    def open(self, case, given):
        torch, F = self.torch, self.torch.nn.functional
        kind, both, (_, heads, t, _) = case["kind"], case["pass"] == "both", case["size"]
        if kind.startswith("layer"):
            return self.open_layer(case, given)
        q, k, v = (torch.from_numpy(given[n]).requires_grad_(both) for n in "qkv")
        wrt, names = [q, k, v], ["dq", "dk", "dv"]
        options = {}
        keep = keep_of(kind, t)
        if keep is not None:
            options["attn_mask"] = torch.from_numpy(keep)
        elif kind == "causal":
            options["is_causal"] = True
        elif kind == "alibi":
            causal = np.where(np.tri(t, dtype=bool), 0, -np.inf).astype(np.float32)
            options["attn_mask"] = torch.from_numpy(alibi_of(heads, t) + causal)
        elif kind in ("bias", "learned bias"):
            options["attn_mask"] = torch.from_numpy(given["bias"])
            if kind == "learned bias":
                wrt.append(options["attn_mask"].requires_grad_())
                names.append("dbias")
        elif kind == "dropout 0.1":
            options["dropout_p"] = 0.1
        attend = F.scaled_dot_product_attention
        if not both:
            def run():
                with torch.inference_mode():
                    return [attend(q, k, v, **options)]
            return run, ["out"]
        dout = torch.from_numpy(given["dout"])

        def run_both():
            for x in wrt:
                x.grad = None
            out = attend(q, k, v, **options)
            out.backward(dout)
            return [out] + [x.grad for x in wrt]
        return run_both, ["out"] + names

    def open_layer(self, case, given):
        torch = self.torch
        _, heads, _, d = case["size"]
        both, mean = case["pass"] == "both", "mean" in case["kind"]
        layer = torch.nn.MultiheadAttention(heads * d, heads, batch_first=True)
        with torch.no_grad():
            for name, p in layer.named_parameters():
                p.copy_(torch.from_numpy(given["layer." + name]))
        x = torch.from_numpy(given["x"]).requires_grad_(both)
        layer.train(both)
        if not both:
            def run():
                with torch.inference_mode():
                    out, weights = layer(x, x, x, need_weights=mean)
                    return [out, weights] if mean else [out]
            return run, ["out", "layer.mean"] if mean else ["out"]
        dout = torch.from_numpy(given["dout"])

        def run_both():
            x.grad = None
            layer.zero_grad()
            out, weights = layer(x, x, x, need_weights=mean)
            out.backward(dout)
            return [out, x.grad] + ([weights] if mean else [])
        return run_both, ["out", "dx"] + (["layer.mean"] if mean else [])

    def arrays(self, results):
        return [r.detach().numpy() for r in results]


class Flex(Torch):
    """flex_attention, compiled; forward only: PyTorch has no backward of it on a CPU."""

    def open(self, case, given):
        torch = self.torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention
        _, heads, t, _ = case["size"]
        kind = case["kind"]
        masks = {
            "causal": lambda b, h, i, j: i >= j,
            "window 256": lambda b, h, i, j: (i >= j) & (i - j < WINDOW),
            "block 64": lambda b, h, i, j: (i // BLOCK == j // BLOCK) | ((5 * (i // BLOCK) + j // BLOCK) % 8 == 0),
        }
        options = {}
        if kind == "alibi":
            slopes = torch.from_numpy((2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)).astype(np.float32))
            options["score_mod"] = lambda s, b, h, i, j: s - slopes[h] * (i - j)
            masks["alibi"] = masks["causal"]
        if kind in masks:
            options["block_mask"] = create_block_mask(masks[kind], None, None, t, t, device="cpu")
        attend = torch.compile(flex_attention)
        q, k, v = (torch.from_numpy(given[n]) for n in "qkv")

        def run():
            with torch.no_grad():
                return [attend(q, k, v, **options)]
        return run, ["out"]


class OnnxRuntime:
    """Its two ways to say attention, com.microsoft.MultiHeadAttention and ONNX's Attention: the faster of both."""

    def __init__(self, threads):
        import onnx
        import onnxruntime
        self.onnx, self.ort, self.threads = onnx, onnxruntime, threads

    def versions(self):
        return {"onnxruntime": self.ort.__version__, "onnx": self.onnx.__version__}

    def session(self, node, shape, domains):
        onnx, ort = self.onnx, self.ort
        tensor = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        graph = onnx.helper.make_graph([node], "attention", [tensor(n) for n in "qkv"], [tensor("out")])
        opsets = [onnx.helper.make_opsetid(name, version) for name, version in domains]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=11)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def open(self, case, given):
        b, heads, t, d = case["size"]
        causal = case["kind"] == "causal"
        make = self.onnx.helper.make_node
        flat = {n: np.ascontiguousarray(given[n].transpose(0, 2, 1, 3)).reshape(b, t, heads * d) for n in "qkv"}
        standard = make("Attention", ["q", "k", "v"], ["out"], is_causal=int(causal))
        contrib = make("MultiHeadAttention", ["q", "k", "v"], ["out"], domain="com.microsoft", num_heads=heads,
                       unidirectional=int(causal))
        ways = []
        for node, feeds, domains in ((contrib, flat, [("", 21), ("com.microsoft", 1)]),
                                     (standard, {n: given[n] for n in "qkv"}, [("", 23)])):
            try:
                shape = list(feeds["q"].shape)
                session = self.session(node, shape, domains)
                session.run(None, feeds)
                start = time.perf_counter()
                session.run(None, feeds)
                ways.append((time.perf_counter() - start, node.op_type, session, feeds))
            except Exception as error:  # this way is not built into this version
                sys.stderr.write(f"onnxruntime, {node.op_type}: {str(error)[:200]}\n")
        _, self.way, session, feeds = min(ways, key=lambda w: w[0])

        def run():
            out = session.run(None, feeds)[0]
            return [out.reshape(b, t, heads, d).transpose(0, 2, 1, 3) if out.ndim == 3 else out]
        return run, ["out"]

    def arrays(self, results):
        return results


PEERS = {"pytorch": Torch, "flex": Flex, "onnxruntime": OnnxRuntime}


def compare(names, ours, theirs):
    """The worst largest difference over the largest value, and where."""
    worst, where = 0.0, ""
    for name, got in zip(names, ours):
        want = theirs[name]
        error = float(np.abs(got - want).max() / max(float(np.abs(want).max()), 1e-30))
        if not error <= worst:  # also for NaN
            worst, where = error, name
    return worst, where


def status_kib(key):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key):
                return int(line.split()[1])
    return 0


def memory(peer, case):
    """The most resident memory of one run beyond inputs, results and gradients."""
    small = dict(case, size=case["size"][:2] + [256] + case["size"][3:])
    run, _ = peer.open(small, made_up(small))
    run()                                        # threads, libraries, their pools
    given = made_up(case)
    run, _ = peer.open(case, given)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)             # what is free already would hide what is taken
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")                             # forgets the most so far
    before = status_kib("VmRSS")
    results = run()
    most = status_kib("VmHWM")
    held = sum(a.nbytes for a in peer.arrays(results)) // 1024
    return {"extra_kib": max(0, most - before - held)}


def main():
    name, threads = sys.argv[1], int(sys.argv[2])
    peer = PEERS[name](threads)
    if sys.argv[3:4] == ["--memory"]:
        print(json.dumps(memory(peer, json.loads(sys.argv[4]))))
        return
    run = None
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            if ask["do"] == "open":
                given = read_safetensors(ask["file"])
                start = time.perf_counter()
                run, names = peer.open(ask["case"], given)
                results = run()
                answer = {"first": time.perf_counter() - start}
                if "dropout" not in ask["case"]["kind"]:  # other random numbers
                    answer["error"], answer["where"] = compare(names, peer.arrays(results), given)
                results = given = None
                answer["way"] = getattr(peer, "way", "")
            elif ask["do"] == "time":
                start = before = time.perf_counter()
                best, runs = 1e30, 0
                while True:
                    run()
                    now = time.perf_counter()
                    best, before, runs = min(best, now - before), now, runs + 1
                    if now - start >= ask["seconds"]:
                        break
                answer = {"runs": runs, "mean": (now - start) / runs, "best": best}
            elif ask["do"] == "close":
                run, answer = None, {}
            else:
                answer = peer.versions()
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''}"}
        print(json.dumps(answer), flush=True)


main()
