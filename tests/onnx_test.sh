#!/bin/sh
# Every sample of every op and every architecture, written as ONNX and run by ONNX Runtime: the results are heed's.
set -eu
python=${HEED_PYTHON:-python3}
"$python" -c 'import onnx, onnxruntime, numpy' 2>/dev/null || {
    echo "onnx or onnxruntime is missing (HEED_PYTHON names a Python that has them)"
    exit 77
}
for opset in 17 18 20; do
    dir=$HEED_BUILD_DIR/onnx/$opset
    rm -rf "$dir"
    mkdir -p "$dir"
    "$HEED_BUILD_DIR/tests/onnx_dump" "$dir" $opset >"$dir/list" || { cat "$dir/list"; exit 1; }
    if grep -q 'built without' "$dir/list"; then
        echo "heed was built without protobuf-c"
        exit 77
    fi
    echo "opset $opset: $(grep -c '^ok' "$dir/list") graphs written, $(grep -c '^skip' "$dir/list") without counterpart"
    "$python" "$HEED_SOURCE_DIR/tests/onnx_test.py" "$dir"
done
