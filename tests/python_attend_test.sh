#!/bin/sh
# heed.attend on NumPy arrays: results, gradients, refusals, threads, memory, the map.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
exec "$python" "$HEED_SOURCE_DIR/tests/python/attend_test.py"
