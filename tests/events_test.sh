#!/bin/sh
# TensorBoard reads what heed writes: every value, the pictures' bytes, a session that went on, and a torn tail.
set -eu
python=${HEED_PYTHON:-python3}
"$python" -c 'import tensorboard' 2>/dev/null || {
    echo "tensorboard is missing (HEED_PYTHON names a Python that has it)"
    exit 77
}
dir=$HEED_BUILD_DIR/events
rm -rf "$dir"
mkdir -p "$dir"
"$HEED_BUILD_DIR/tests/events_dump" "$dir" >"$dir/said" || {
    cat "$dir/said"
    grep -q 'built without' "$dir/said" && exit 77
    exit 1
}
"$python" - "$dir" <<'PYTHON'
import glob, os, sys
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.backend.event_processing import event_file_loader

folder = sys.argv[1]
files = sorted(glob.glob(folder + "/events.out.tfevents.*"), key=lambda f: int(f.rsplit(".", 1)[1]))
assert len(files) == 2, files

one = EventAccumulator(files[0], tensor_size_guidance={"scalars": 0, "images": 0, "text": 0})
one.Reload()
tags = one.Tags()["tensors"]
assert sorted(tags) == ["attention/L0/H0", "recipe", "train/loss", "val/accuracy"], tags
loss = one.Tensors("train/loss")
assert [e.step for e in loss] == list(range(1, 21))
for e in loss:
    assert e.tensor_proto.float_val[0] == __import__("struct").unpack("f", __import__("struct").pack("f", 1.0 / e.step))[0]
plugins = {t: one.SummaryMetadata(t).plugin_data.plugin_name for t in tags}
assert plugins == {"attention/L0/H0": "images", "recipe": "text", "train/loss": "scalars", "val/accuracy": "scalars"}
picture = one.Tensors("attention/L0/H0")[0].tensor_proto
assert list(picture.string_val[:2]) == [b"2", b"1"] and len(picture.string_val) == 4
assert picture.string_val[2].startswith(b"\x89PNG")
assert one.Tensors("recipe")[0].tensor_proto.string_val[0].decode().endswith("of \u4e2d\u6587")

both = EventAccumulator(folder, tensor_size_guidance={"scalars": 0, "images": 0, "text": 0})
both.Reload()
loss = both.Tensors("train/loss")
assert [e.step for e in loss] == list(range(1, 12)), [e.step for e in loss]
assert loss[-1].tensor_proto.float_val[0] == 42

data = open(files[0], "rb").read()
whole = sum(1 for _ in event_file_loader.EventFileLoader(files[0]).Load())
assert whole == 44, whole
torn = folder + "/torn"
os.mkdir(torn)
for cut in (1, 4, 9, 30):
    path = torn + "/events.out.tfevents.%d" % cut
    open(path, "wb").write(data[:-cut])
    assert sum(1 for _ in event_file_loader.EventFileLoader(path).Load()) == whole - 1
print("tensorboard read %d records, a resumed run and four torn ones" % whole)
PYTHON
