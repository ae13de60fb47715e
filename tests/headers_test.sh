#!/bin/sh
# Every public header stands alone, as C11 and as C++17.
set -u
cd "$HEED_SOURCE_DIR"
flags="-Wall -Wextra -Wpedantic -Werror -fsyntax-only -Iinclude"
CC=${CC:-cc}
CXX=${CXX:-$(command -v g++ || command -v clang++)}
status=0
count=0
for header in include/heed/*.h; do
    [ -e "$header" ] || { echo "no public header yet"; exit 77; }
    line="#include <heed/${header##*/}>"
    echo "$line" | $CC -std=c11 $flags -x c - || { echo "$header does not stand alone as C11"; status=1; }
    if [ -n "$CXX" ]; then
        echo "$line" | $CXX -std=c++17 $flags -x c++ - || { echo "$header does not stand alone as C++17"; status=1; }
    fi
    count=$((count + 1))
done
[ -n "$CXX" ] || echo "no C++ compiler here: only C11 was tried (apt install g++)"
echo "$count headers"
exit $status
