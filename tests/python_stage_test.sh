#!/bin/sh
# The Python package is built: library, binding, sources. Other tests of Python wait for this one.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
"$python" -c 'import heed; print("heed %s: %s" % (heed.version, heed.default_context()))'
