#!/bin/sh
# The Python code of docs/python.md and of its Chinese page runs, block after block, on planted pictures.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
dir=$HEED_BUILD_DIR/python_docs_test
rm -rf "$dir"
mkdir -p "$dir"
cd "$dir"
"$HEED_BUILD_DIR/examples/folders" shapes >folders.log
for page in python.md python.zh.md; do
    "$python" - "$HEED_SOURCE_DIR/docs/$page" <<'PY'
import re
import sys

names, ran, left = {}, 0, 0
with open(sys.argv[1], encoding="utf-8") as f:
    blocks = re.findall(r"^```python\n(.*?)^```", f.read(), re.S | re.M)
for block in blocks:
    if "torch" in block and "torch" not in names:
        try:
            import torch  # noqa: F401
        except ImportError:
            left += 1
            continue
    block = block.replace('out="runs/shapes")', 'out="runs/shapes", set={"train.max_steps": 5}, force=True, progress=None)')
    exec(compile(block, sys.argv[1], "exec"), names)
    ran += 1
assert ran > 0
print("%s: %d blocks ran%s" % (sys.argv[1].rpartition("/")[2], ran, ", %d need torch and were left out" % left if left else ""))
PY
done
