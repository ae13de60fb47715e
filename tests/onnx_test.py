"""Runs what tests/onnx_dump.c wrote: onnx.checker, then ONNX Runtime against heed's own results.

    onnx_test.py FOLDER     exit code 77 when onnx or onnxruntime is missing
"""
import glob
import json
import os
import struct
import sys

try:
    import numpy as np
    import onnx
    import onnxruntime as ort
except ImportError as e:
    print("skipped: %s (set HEED_PYTHON to a Python that has onnx and onnxruntime)" % e)
    sys.exit(77)

TYPES = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "I64": np.int64, "I32": np.int32, "U8": np.uint8, "BOOL": np.bool_}


def read(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        head = json.loads(f.read(n))
        data = f.read()
    head.pop("__metadata__", None)
    return {k: np.frombuffer(data[slice(*v["data_offsets"])], TYPES[v["dtype"]]).reshape(v["shape"]) for k, v in head.items()}


options = ort.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 2
bad = ran = 0
lacking = {}
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.onnx"))):
    name = os.path.basename(path)[:-5]
    model = onnx.load(path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as e:
        print("BAD", name, "checker:", str(e).strip().splitlines()[0][:200])
        bad += 1
        continue
    values = read(path[:-5] + ".safetensors")
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as e:
        if "NOT_IMPLEMENTED" in str(e):                  # a type that this runtime has no kernel for
            lacking[name] = str(e).strip()[-120:]
            continue
        print("BAD", name, "load:", str(e).strip()[:300])
        bad += 1
        continue
    try:
        got = session.run(None, {x.name: values["in.%d" % i] for i, x in enumerate(session.get_inputs())})
    except Exception as e:
        print("BAD", name, "run:", str(e).strip()[:300])
        bad += 1
        continue
    ran += 1
    for i, y in enumerate(got):
        want = values["out.%d" % i]
        if y.shape != want.shape or y.dtype != want.dtype:
            print("BAD", name, "output", i, "is", y.dtype, y.shape, "and not", want.dtype, want.shape)
            bad += 1
        elif not np.allclose(y, want, rtol=1e-3, atol=1e-5 * max(1, np.abs(np.nan_to_num(want.astype(np.float64), posinf=0, neginf=0)).max(initial=0)), equal_nan=True):
            print("BAD", name, "output", i, "differs by", np.abs(y.astype(np.float64) - want).max())
            bad += 1
print("%d graphs run by ONNX Runtime %s, %d wrong, %d without a kernel there" % (ran, ort.__version__, bad, len(lacking)))
for name, why in lacking.items():
    print("   ", name, why)
sys.exit(bad > 0)
