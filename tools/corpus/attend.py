#!/usr/bin/env python3
"""Writes tests/corpus/attend/*: sizes, a bit a tensor, and a descriptor, as fuzz/attend_fuzz.c reads them.   tools/corpus/attend.py"""
import json
import os

folder = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "corpus", "attend")
names = ("lengths q_lengths q_seg k_seg globals block_keep graph_indptr graph_indices mask offset score_w add_wq add_wk add_v add_b prev "
         "loc_kernel loc_u tau shaw_k shaw_v xl_r xl_u xl_v alibi_slopes t5_table bias temperature sink sigmoid_bias alpha span gate "
         "talk_pre talk_post q2 k2 lambda dropout_keep dout").split()
usual = (2, 1, 2, 4, 5, 4, 3)


def write(name, spec, given="dout", sizes=usual, larger=255, seed=7):
    bits = 0
    for word in given.split():
        bits |= 1 << names.index(word)
    text = spec if isinstance(spec, str) else json.dumps(spec)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(bytes(sizes) + bits.to_bytes(5, "little") + bytes((larger, seed)) + text.encode())


def kind(of, **more):
    return {"normaliser": dict(kind=of, **more)}


os.makedirs(folder, exist_ok=True)
write("plain", {})
write("no_keys", {}, sizes=(2, 1, 2, 4, 0, 4, 3))
write("no_queries", {}, sizes=(2, 1, 2, 0, 5, 4, 3))
write("no_heads", {}, sizes=(2, 1, 0, 4, 5, 4, 3))
write("no_width", {"score": {"kind": "additive"}}, "add_wq add_wk add_v add_b dout", sizes=(2, 1, 2, 4, 5, 0, 3))
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
                           "distance": True, "mean": True}}, "")
write("larger", {}, "bias sink dout", larger=29)
write("unknown", {"mask": {"casual": True}})
write("wrong_sort", {"mask": {"causal": "yes"}})
write("twice", '{"mask":{"causal":true},"mask":{}}')
write("deep", '{"a":' * 100 + "1" + "}" * 100)
write("largest", {"offset": 9223372036854775807, "mask": {"window": [9223372036854775807, 0], "stride": 9223372036854775807}}, "offset")
write("huge_probe", {"probe": {"pooled": [9223372036854775807, 9223372036854775807], "topk": 9223372036854775807}}, "")
write("lowest_offset", kind("sigmoid"), "offset shaw_k dout", sizes=(2, 1, 2, 4, 7, 2, 0), seed=0x94)
write("no_heads_at_all", {"score": {"kind": "cosine", "scale": 30}, "softcap": 2}, "bias dout", sizes=(1, 0, 0, 0, 0, 0, 0), seed=0xfe)
