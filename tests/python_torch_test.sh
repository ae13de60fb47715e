#!/bin/sh
# heed inside PyTorch and transformers: gradients, a whole training, memory.
set -eu
needs=torch
. "$HEED_SOURCE_DIR/tests/support/python.sh"
exec "$python" "$HEED_SOURCE_DIR/tests/python/torch_test.py"
