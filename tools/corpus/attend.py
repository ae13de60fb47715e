#!/usr/bin/env python3
"""Writes tests/corpus/attend/*: sizes, a bit a tensor, and a descriptor, as fuzz/attend_making.h reads them.   tools/corpus/attend.py"""
import glob
import json
import os
import struct

root = os.path.join(os.path.dirname(__file__), "..", "..")
folder = os.path.join(root, "tests", "corpus", "attend")
names = ("lengths q_lengths q_seg k_seg globals block_keep graph_indptr graph_indices mask offset score_w add_wq add_wk add_v add_b prev "
         "loc_kernel loc_u tau shaw_k shaw_v xl_r xl_u xl_v alibi_slopes t5_table bias temperature sink sigmoid_bias alpha span gate "
         "talk_pre talk_post q2 k2 lambda dropout_keep dout").split()
asked = "weights grad dweights dlse".split()
usual = (2, 1, 1, 4, 5, 4, 3)


count = 0


def write(name, spec, given="dout", sizes=usual, larger=255, seed=7, how=None, ask="weights grad"):
    """`spec` is JSON, or bytes that choose one; `how` is level and check, and turns by itself; `ask` has words of `asked`."""
    global count
    bits = 0
    for word in given.split():
        bits |= 1 << names.index(word)
    wants = sum(1 << asked.index(word) for word in ask.split())
    text = spec if isinstance(spec, bytes) else (spec if isinstance(spec, str) else json.dumps(spec, separators=(",", ":"))).encode()
    with open(os.path.join(folder, name), "wb") as f:
        f.write(bytes(sizes) + bits.to_bytes(5, "little") + bytes((larger, seed, count % 18 if how is None else how, wants)) + text)
    count += 1


def kind(of, **more):
    return {"normaliser": dict(kind=of, **more)}


os.makedirs(folder, exist_ok=True)
write("plain", {})
write("no_keys", {}, sizes=(2, 1, 1, 4, 0, 4, 3))
write("no_queries", {}, sizes=(2, 1, 1, 0, 5, 4, 3))
write("no_heads", {}, sizes=(2, 1, 7, 4, 5, 4, 3))
write("no_width", {"score": {"kind": "additive"}}, "add_wq add_wk add_v add_b dout", sizes=(2, 1, 1, 4, 5, 0, 3))
write("nothing", {}, sizes=(0, 0, 0, 0, 0, 0, 0))
write("additive", {"score": {"kind": "additive"}}, "add_wq add_wk add_v add_b dout")
write("location", {"score": {"kind": "location"}}, "add_wq add_wk add_v prev loc_kernel loc_u dout")
write("general", {"score": {"kind": "general", "scale": -0.5}, "softcap": 2}, "score_w temperature dout")
write("cosine", {"score": {"kind": "cosine"}}, "tau gate dout")
write("distance", {"score": {"kind": "neg_distance"}}, "alibi_slopes bias dout")
write("rope", {"position": {"rope": {"base": 50, "dims": 2, "interleaved": True}}, "offset": 9}, "dout")
write("t5", {"position": {"t5": {"max_distance": 6}}, "mask": {"causal": True}}, "t5_table offset dout")
write("shaw", {"mask": {"window": [2, 1]}}, "shaw_k shaw_v globals dout")
write("xl", {"position": {"xl": {"zero": 1}}}, "xl_r xl_u xl_v dout")
write("block", {"mask": {"block": [2, 2], "stride": 3}}, "block_keep globals lengths q_lengths dout")
write("segments", {}, "q_seg k_seg mask dout")
write("graph", {}, "graph_indptr graph_indices dout")
write("graph_alone", {}, "graph_indptr dout")
for normaliser in "sparsemax entmax15 sigmoid hard linear".split():
    write(normaliser, kind(normaliser))
write("entmax", kind("entmax"), "alpha dout")
write("topk", kind("topk", k=2), "mask dout")
write("span", kind("adaptive_span", ramp=2), "span dout")
write("sink", {}, "sink temperature dout")
write("talking", {"combine": {"dropout": {"p": 0.3, "seed": 5}}}, "talk_pre talk_post dout")
write("differential", {"combine": {"dropout": {"p": 0.3}}}, "q2 k2 lambda dropout_keep gate dout")
write("probes", {"probe": {"rows": [0, 3, 0], "heads": [1], "topk": 9, "pooled": [3, 2], "received": True, "entropy": True,
                           "distance": True, "mean": True}}, "", ask="weights")
write("larger", {}, "bias sink dout", larger=29)
write("unknown", {"mask": {"casual": True}})
write("wrong_sort", {"mask": {"causal": "yes"}})
write("twice", '{"mask":{"causal":true},"mask":{}}')
write("deep", '{"a":' * 100 + "1" + "}" * 100)
write("largest", {"offset": 9223372036854775807, "mask": {"window": [9223372036854775807, 0], "stride": 9223372036854775807}}, "offset")
write("huge_probe", {"probe": {"pooled": [9223372036854775807, 9223372036854775807], "topk": 9223372036854775807}}, "", ask="weights")
write("lowest_offset", kind("sigmoid"), "offset shaw_k dout", sizes=(2, 1, 1, 4, 7, 2, 0), seed=0x94)
write("no_heads_at_all", {"score": {"kind": "cosine", "scale": 30}, "softcap": 2}, "bias dout", sizes=(1, 0, 7, 0, 0, 0, 0), seed=0xfe)
for name, offset in ("last", 2**63 - 1), ("first", -2**63):
    write("no_limit_from_the_%s_place" % name, {"offset": offset, "mask": {"window": [2**63 - 1, 2**63 - 1], "stride": 2**63 - 1}})
for level in range(3):
    write("mean_of_few_queries_%d" % level, {"mask": {"causal": True}, "normaliser": {"kind": "linear"}, "probe": {"mean": True}},
          "lengths offset dout", sizes=(1, 1, 1, 197, 6, 1, 1), how=3 * 2 + level, ask="weights")

# The descriptors of the case files, with the tensors that they have and sizes of the same order.
for path in sorted(glob.glob(os.path.join(root, "tests", "golden", "attention", "*.safetensors"))):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
    spec = json.loads(header.pop("__metadata__", {}).get("spec", "{}"))
    q, k, v = (header[name]["shape"] for name in "qkv")
    sizes = (q[0] % 3, k[1] % 2 ^ 1, 7 if not k[1] or q[1] % k[1] else min(q[1] // k[1], 2) - 1, q[2] % 6, k[2] % 8, q[3] % 6, v[3] % 4)
    ask = " ".join(word for word in asked if word in header or (word == "grad" and "dout" in header))
    write("case_" + os.path.basename(path)[:-len(".safetensors")].replace("-", "_"), spec,
          " ".join(name for name in header if name in names), sizes, ask=ask)

# Around a tile of 64 keys and 128 queries, a choice a byte.
for i in range(36):
    state, choices = i * 40503 + 7, []
    for _ in range(40):
        state = (state * 1103515245 + 12345) % 2**31
        choices.append(state >> 16 & 255)
    choices[0] = 1 + choices[0] % 120                  # no brace, no blank
    around = [192 + (i * 5 + n * 3) % 64 if (i >> n) % 2 else 3 + (i + n) % 5 for n in range(4)]
    write("made_%02d" % i, bytes(choices), " ".join(name for n, name in enumerate(names) if choices[(n + 9) % 40] % 3 == 0), (2, i % 2, 1 + i % 2, *around),
          how=i % 18, seed=i, ask="weights grad dweights" if i % 3 else "grad")
