#!/bin/sh
# What `make install` lays down is enough for a stranger's program, by pkg-config and by find_package.
set -eu
[ -e "$HEED_SOURCE_DIR/include/heed/heed.h" ] || { echo "include/heed/heed.h does not exist yet"; exit 77; }
dir=$HEED_BUILD_DIR/install_test
rm -rf "$dir"
mkdir -p "$dir/program"
cd "$dir"
cmake --install "$HEED_BUILD_DIR" --prefix "$dir/prefix" >install.log

cat >program/main.c <<'C'
#include <heed/heed.h>
#include <stdio.h>

int main(void)
{
    heed_context *ctx = NULL;
    heed_error err = { 0 };

    if (heed_context_new(&ctx, NULL, &err) != HEED_OK)
        return fprintf(stderr, "%s\n", err.text), 1;
    printf("heed %s works from outside\n", HEED_VERSION);
    heed_context_free(ctx);
    return 0;
}
C
pc=$(dirname "$(find prefix -name heed.pc)")
flags=$(PKG_CONFIG_PATH=$dir/$pc pkg-config --cflags --libs heed)
${CC:-cc} -std=c11 -Wall -Wextra -Werror program/main.c -o by_pkg_config $flags
./by_pkg_config

cat >program/CMakeLists.txt <<'C'
cmake_minimum_required(VERSION 3.20)
project(outside LANGUAGES C)
find_package(heed REQUIRED)
add_executable(by_cmake main.c)
target_link_libraries(by_cmake PRIVATE heed::heed)
C
cmake -S program -B by_cmake -DCMAKE_PREFIX_PATH="$dir/prefix" -DCMAKE_C_COMPILER="${CC:-cc}" >cmake.log
cmake --build by_cmake >>cmake.log
by_cmake/by_cmake
