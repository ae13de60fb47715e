#!/bin/sh
# The stripped command stays below 4 MiB. (PyTorch and what it needs have 0.85 GiB; each instruction level brings its own kernels.)
set -eu
command=$HEED_BUILD_DIR/heed
[ -x "$command" ] || { echo "this build has no command"; exit 77; }
grep -q '^HEED_SANITIZE:STRING=$' "$HEED_BUILD_DIR/CMakeCache.txt" || { echo "a sanitized command is larger"; exit 77; }
! grep -q '^HEED_FUZZ:BOOL=ON' "$HEED_BUILD_DIR/CMakeCache.txt" || { echo "an instrumented command is larger"; exit 77; }
strip -o "$command.stripped" "$command"
size=$(wc -c <"$command.stripped")
rm -f "$command.stripped"
echo "the stripped command has $size bytes, at most 4194304 are allowed"
[ "$size" -le 4194304 ]
