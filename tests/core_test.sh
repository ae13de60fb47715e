#!/bin/sh
# The core (rooms up to formats/safetensors) builds by itself and needs libc, libm and pthreads only.
set -eu
dir=$HEED_BUILD_DIR/core
[ -n "$(ls "$HEED_SOURCE_DIR"/src/base/*.c 2>/dev/null)" ] || { echo "src/base is empty"; exit 77; }
cmake -S "$HEED_SOURCE_DIR" -B "$dir" -G Ninja -DHEED_CORE_ONLY=ON -DHEED_TESTS=OFF \
    -DCMAKE_C_COMPILER="${CC:-cc}" >"$HEED_BUILD_DIR/core.log"
ninja -C "$dir" >>"$HEED_BUILD_DIR/core.log" || { tail -n 30 "$HEED_BUILD_DIR/core.log"; exit 1; }
echo 'int main(void) { return 0; }' >"$dir/main.c"
${CC:-cc} -o "$dir/all" "$dir/main.c" -Wl,--whole-archive "$dir/libheed.a" -Wl,--no-whole-archive -lm -pthread
"$dir/all"
echo "every object of the core links with libc, libm and pthreads alone"
