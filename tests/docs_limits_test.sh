#!/bin/sh
# docs/limits.md says what the sources say: every limit of heed_limits with its default, every constant with its value,
# every build option.
set -u
cd "$HEED_SOURCE_DIR" || exit 1
page=docs/limits.md
status=0
count=0
wrong()
{
    echo "$page: $*"
    status=1
}
grouped()
{
    echo "$1" | sed -e ':again' -e 's/\([0-9]\)\([0-9]\{3\}\)\($\|,\)/\1,\2\3/' -e 't again'
}

# .name = limits_or(g->name, 16 * MIB),
sed -n 's/^ *\.\([a-z_]*\) = limits_or(g->[a-z_]*, \(.*\)),$/\1 \2/p' src/base/limits.c |
    sed 's/KIB/1024/; s/MIB/1024 * 1024/; s/GIB/1024 * 1024 * 1024/' >"$HEED_BUILD_DIR/limits"
while read -r name expression; do
    value=$(grouped $(($expression)))
    grep -q "^| \`$name\` | $value |" $page || wrong "$name: the source says $value"
    count=$((count + 1))
done <"$HEED_BUILD_DIR/limits"
for name in $(sed -n '/^typedef struct heed_limits {/,/^}/s/^ *uint64_t \([a-z_]*\);.*/\1/p' include/heed/base.h); do
    grep -q "^| \`$name\` |" $page || wrong "$name of heed_limits is missing"
done
for name in $(sed -n 's/^| `\([a-z_]*\)` | .*/\1/p' $page); do
    grep -q "uint64_t $name;" include/heed/base.h || wrong "$name is no limit"
done

# | what | `MACRO` | value | file |
sed -n 's/^| .* | `\([A-Z_]*\)` | \([0-9,]*\) | `\(.*\)` |$/\1 \2 \3/p' $page | tr -d , >"$HEED_BUILD_DIR/constants"
while read -r name value file; do
    grep -qE "^#define $name $value([u]?)( |\$)" "$file" || wrong "$name of $file is not $value"
    count=$((count + 1))
done <"$HEED_BUILD_DIR/constants"

# option(HEED_NAME "..." DEFAULT)
for name in $(sed -n 's/^ *option(\(HEED_[A-Z_]*\) .*/\1/p' CMakeLists.txt) HEED_SANITIZE; do
    grep -q "^| \`$name\` |" $page || wrong "the build option $name is missing"
    count=$((count + 1))
done
for name in $(sed -n 's/^| `\(HEED_[A-Z_]*\)` | .*/\1/p' $page); do
    grep -qE "(option|set)\($name" CMakeLists.txt || wrong "$name is no build option"
done
[ $count -gt 20 ] || wrong "only $count rows were compared"
echo "$count rows"
exit $status
