#!/bin/sh
# The rules in docs/doctor.md are those of the table in the source.
set -u
page=$HEED_SOURCE_DIR/docs/doctor.md
rules=$HEED_BUILD_DIR/doctor_rules
"$HEED_BUILD_DIR/heed" doctor --rules >"$rules" || exit 1
[ "$(wc -l <"$rules")" -gt 10 ] || { echo "heed doctor --rules prints no table"; exit 1; }
sed -n '/^<!-- rules -->$/,/^<!-- \/rules -->$/p' "$page" | sed '1d;$d' | diff -u - "$rules" ||
    { echo "docs/doctor.md: the table is not what build/heed doctor --rules prints"; exit 1; }
for rule in $(sed -n 's/^| `\([a-z-]*\)` .*/\1/p' "$rules"); do
    grep -q "\"$rule\"" "$HEED_SOURCE_DIR"/tests/doctor*_test.c || { echo "no test names the rule $rule"; exit 1; }
done
echo "$(($(wc -l <"$rules") - 2)) rules"
