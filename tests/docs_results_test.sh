#!/bin/sh
# Results in the pages are written by tools/docs/results from what was measured, and from nothing else.
set -eu
tool=$HEED_SOURCE_DIR/tools/docs/results
"$tool" --check

dir=$HEED_BUILD_DIR/docs_results_test
rm -rf "$dir"
mkdir -p "$dir/docs/results"
cd "$dir"
printf '# A page\n<!-- results:begin -->\nold\n<!-- results:end -->\nafter\n' >README.md
cp README.md README.zh.md
export HEED_DOCS=$dir

"$tool" --check 2>/dev/null && { echo "an old block passes the check"; exit 1; }
"$tool" >/dev/null
grep -q 'No measurement' README.md
"$tool" --check
printf '{"metric": "test accuracy", "recipe": "fashion-mlp",\n "value": 0.8975, "baseline": 0.1, "seeds": 3, "seconds": 31.5, "machine": "2 cores"}\n' >docs/results/a.json
"$tool" >/dev/null
grep -qx '| fashion-mlp | test accuracy | 0.8975 | 0.1 | 3 | 31.5 | 2 cores |' README.md
grep -qx '| fashion-mlp | test accuracy | 0.8975 | 0.1 | 3 | 31.5 | 2 cores |' README.zh.md
[ "$(tail -n 1 README.md)" = after ]
"$tool" --check

cp README.md before.md
for bad in '{"recipe": "x"}' '{"recipe": ["x"]}' 'no object' '{"recipe": "a|b"}'; do
    echo "$bad" >docs/results/b.json
    "$tool" >/dev/null 2>&1 && { echo "$bad is taken"; exit 1; }
    cmp before.md README.md
done
echo "results are taken from files, and bad files change nothing"
