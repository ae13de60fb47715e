#!/bin/sh
# heed.open and heed.train on a toy data set.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
. "$HEED_SOURCE_DIR/tests/support/toy_idx.sh"
dir=$HEED_BUILD_DIR/python_runs_test
rm -rf "$dir"
mkdir -p "$dir/data"
cd "$dir"
toy_idx pictures 48 data/train-images-idx3-ubyte
toy_idx labels 48 data/train-labels-idx1-ubyte
toy_idx pictures 16 data/t10k-images-idx3-ubyte
toy_idx labels 16 data/t10k-labels-idx1-ubyte
exec "$python" "$HEED_SOURCE_DIR/tests/python/runs_test.py"
