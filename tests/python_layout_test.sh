#!/bin/sh
# Every size, offset and enumerator of the binding is what the C compiler says, and every function that the
# headers declare is in the library.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
dir=$HEED_BUILD_DIR/python_layout_test
rm -rf "$dir"
mkdir -p "$dir"
"$python" "$HEED_SOURCE_DIR/tests/python/layout.py" write >"$dir/layout.c"
${CC:-cc} -std=c11 -Wall -Werror -I"$HEED_SOURCE_DIR/include" "$dir/layout.c" -o "$dir/layout" -L"$stage" -lheed -Wl,-rpath,"$stage"
"$dir/layout" >"$dir/layout.txt"
"$python" "$HEED_SOURCE_DIR/tools/python/bind.py" "$HEED_SOURCE_DIR/include" --count >"$dir/count.txt"
"$python" "$HEED_SOURCE_DIR/tests/python/layout.py" compare "$dir/layout.txt" "$dir/count.txt"

# A binding that is wrong is noticed: a field left out, another enumerator.
sed -i.bak 's/^\(struct heed_type [0-9]* \).*/\19999/; s/^enum heed_dtype HEED_BF16 .*/enum heed_dtype HEED_BF16 77/' "$dir/layout.txt"
if "$python" "$HEED_SOURCE_DIR/tests/python/layout.py" compare "$dir/layout.txt" "$dir/count.txt" >"$dir/spoiled.log"; then
    echo "a spoiled layout was not noticed"
    exit 1
fi
grep -q 'heed_type' "$dir/spoiled.log" && grep -q HEED_BF16 "$dir/spoiled.log"
