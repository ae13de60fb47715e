#!/usr/bin/env python3
"""Writes tests/golden/metrics/*.safetensors: probabilities, labels and what scikit-learn says of them.

    python3 -m venv venv && venv/bin/pip install scikit-learn==1.9.1 numpy && venv/bin/python tools/corpus/metrics.py

  probability f32 [n,C], labels i64 [n]
  scalars     f64 [16]   accuracy, balanced accuracy, log loss, majority, ECE, mean ROC-AUC, mean AP, then precision,
                         recall, F1 as macro, micro and weighted mean
  per_class   f64 [C,7]  support, predicted, precision, recall, F1, ROC-AUC, AP; NaN where not defined
  confusion   i64 [C,C]
  roc.K, pr.K f64 [3,m]  x, y, threshold of class K

The log loss is scikit-learn's for f64, of probabilities kept within its bounds for f32. ECE has no counterpart there and
is written out below.
"""
import json
import os
import struct
import warnings

import numpy as np
import sklearn
from sklearn import metrics as sk

folder = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "metrics")
assert sklearn.__version__ == "1.9.1", sklearn.__version__
warnings.simplefilter("ignore")
nan = float("nan")


def save(path, tensors):
    names = {"float64": "F64", "int64": "I64", "float32": "F32"}
    order = sorted(tensors, key=lambda k: (-tensors[k].dtype.itemsize, k))  # so that all are aligned
    head, data = {"__metadata__": {"format": "pt"}}, b""
    for k in order:
        t = np.ascontiguousarray(tensors[k])
        head[k] = {"dtype": names[str(t.dtype)], "shape": list(t.shape), "data_offsets": [len(data), len(data) + t.nbytes]}
        data += t.tobytes()
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def ece(p, y, best):
    confidence, total = p.max(1).astype(np.float64), 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        total += abs((best[inside] == y[inside]).sum() - confidence[inside].sum())
    return total / len(y)


def log_loss(p, y, classes):
    eps = np.finfo(np.float32).eps
    kept = np.clip(p, eps, 1 - eps).astype(np.float64)
    if classes == 1:
        return -np.log(kept).mean()
    wide = sk.log_loss(y, y_proba=kept, labels=range(classes))
    assert abs(wide - sk.log_loss(y, y_proba=p, labels=range(classes))) < 1e-5 * max(1, wide)
    return wide


def case(name, p, y, curves):
    p, y = p.astype(np.float32), y.astype(np.int64)
    classes, best = p.shape[1], p.argmax(1)
    labels = list(range(classes))
    prf = lambda average: sk.precision_recall_fscore_support(y, best, labels=labels, average=average, zero_division=0)
    precision, recall, f1, support = prf(None)
    auc, ap = [], []
    for k in labels:
        of = y == k
        auc.append(sk.roc_auc_score(of, p[:, k]) if of.any() and not of.all() else nan)
        ap.append(sk.average_precision_score(of, p[:, k]) if of.any() else nan)
    mean = lambda v: np.nanmean(v) if not np.isnan(v).all() else nan
    scalars = [sk.accuracy_score(y, best), sk.balanced_accuracy_score(y, best), log_loss(p, y, classes),
               support.max() / len(y), ece(p, y, best), mean(auc), mean(ap)]
    for average in "macro", "micro", "weighted":
        scalars += prf(average)[:3]
    tensors = {
        "probability": p, "labels": y, "scalars": np.array(scalars, np.float64),
        "per_class": np.stack([support, np.bincount(best, minlength=classes), precision, recall, f1, auc, ap], 1).astype(np.float64),
        "confusion": sk.confusion_matrix(y, best, labels=labels).astype(np.int64),
    }
    for k in curves:
        of = y == k
        x, t, threshold = sk.roc_curve(of, p[:, k], drop_intermediate=False)
        tensors["roc.%d" % k] = np.stack([x, t, threshold]).astype(np.float64)
        if of.any():
            x, t, threshold = sk.precision_recall_curve(of, p[:, k])
            tensors["pr.%d" % k] = np.stack([t, x, np.append(threshold, np.inf)]).astype(np.float64)
    save(os.path.join(folder, name + ".safetensors"), tensors)


def soft(n, classes, signal, seed):
    r = np.random.default_rng(seed)
    y = r.integers(0, classes, n)
    x = r.normal(0, 1.5, (n, classes))
    x[np.arange(n), y] += signal
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True), y


os.makedirs(folder, exist_ok=True)
case("binary", *soft(200, 2, 1.0, 1), curves=[0, 1])
case("ten", *soft(1000, 10, 2.5, 2), curves=[0])

p, y = soft(300, 4, 1.5, 3)  # eighths: exact in f32, with many ties
eighths = np.floor(p * 8)
eighths[np.arange(300), p.argmax(1)] += 8 - eighths.sum(1)
case("ties", eighths / 8, y, curves=[0, 1, 2, 3])

p, y = soft(120, 5, 2.0, 4)  # class 3 has no sample, class 4 is never named
y[y == 3] = 1
p[:, 0] += p[:, 4] * 0.99
p[:, 4] *= 0.01
case("absent", p, y, curves=[0, 3])

y = np.arange(40) % 3
case("perfect", np.eye(3)[y], y, curves=[0])
case("wrong", np.eye(3)[(y + 1) % 3], y, curves=[0])
case("constant", np.full((40, 4), 0.25), np.arange(40) % 4, curves=[0])
case("one_class", np.ones((9, 1)), np.zeros(9), curves=[0])
case("one_of_three", soft(30, 3, 1.0, 5)[0], np.full(30, 2), curves=[0, 2])
case("single", np.array([[0.25, 0.75]]), np.array([1]), curves=[1])
