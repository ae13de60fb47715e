#!/bin/sh
# The table of attention beside others is written by tools/docs/attention from what was measured, and from nothing else.
set -eu
python=${HEED_PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
tool=$HEED_SOURCE_DIR/tools/docs/attention
golden=$HEED_SOURCE_DIR/tests/golden/bench
"$python" "$tool" --check

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
page=$dir/page.md
printf '# A page\n<!-- attention:begin -->\nold\n<!-- attention:end -->\nafter\n' >"$page"
"$python" "$tool" --check "$golden/results.json" "$page" 2>/dev/null && { echo "an old block passes the check"; exit 1; }
"$python" "$tool" "$golden/results.json" "$page" >/dev/null
diff "$golden/page.md" "$page"
"$python" "$tool" --check "$golden/results.json" "$page"
"$python" "$tool" "$dir/none.json" "$page" >/dev/null
grep -qx 'No measurement has been recorded yet.' "$page"
[ "$(tail -n 1 "$page")" = after ]

cp "$page" "$dir/before"
echo 'no JSON' >"$dir/bad.json"
"$python" "$tool" "$dir/bad.json" "$page" >/dev/null 2>&1 && { echo "what is no JSON is taken"; exit 1; }
cmp "$dir/before" "$page"
echo "# no block" >"$dir/bare.md"
"$python" "$tool" "$golden/results.json" "$dir/bare.md" >/dev/null 2>&1 && { echo "a page without a block is taken"; exit 1; }
echo "the table is taken from results, and bad results change nothing"
