#!/bin/sh
# Every attention case through Python: the JSON form of every spec, every tensor and gradient by name.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
exec "$python" "$HEED_SOURCE_DIR/tests/python/cases_test.py" "$HEED_SOURCE_DIR/tests/golden/attention"
