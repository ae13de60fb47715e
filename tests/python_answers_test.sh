#!/bin/sh
# Every answer of examples/answers runs, and what it asserts holds.
set -eu
needs=torch
. "$HEED_SOURCE_DIR/tests/support/python.sh"
ran=0
for answer in "$HEED_SOURCE_DIR"/examples/answers/*.py; do
    if grep -q '^from transformers' "$answer" && ! "$python" -c 'import transformers' 2>/dev/null; then
        echo "${answer##*/}: not tried, $python has no transformers"
        continue
    fi
    echo "== ${answer##*/}"
    "$python" "$answer"
    ran=$((ran + 1))
    name=${answer##*/}
    grep -q "($name)" "$HEED_SOURCE_DIR/examples/answers/README.md" || { echo "$name has no row in examples/answers/README.md"; exit 1; }
done
echo "$ran answers"
