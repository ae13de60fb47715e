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
one()
{
    printf '{"recipe": "%s", "accuracy": "%s", "accuracy_mirror": "%s", "majority": 0.1,\n "linear": "%s", "ablation": "%s",' "$@"
    printf ' "seeds": "0 1 2", "seconds": "30 31.5 33", "parameters": 1000, "cpu": "a CPU", "cores": 2}\n'
}
one linear "0.8 0.8 0.8" "" - - >docs/results/a.json
one plain "0.9 0.91 0.92" "" linear - >docs/results/b.json
one full "0.91 0.92 0.90" "0.92 0.92 0.92" linear plain >docs/results/c.json
"$tool" >/dev/null
for page in README.md README.zh.md; do
    grep -qx '| linear | 80.00 ± 0.00 % | - | 10.0 % | - | - | 1000 | 32 | 3 |' $page
    # 0.01 * 4.303 / sqrt(3) = 0.0248; the differences by seed are 0.01, 0.01, -0.02
    grep -qx '| plain | 91.00 ± 2.48 % | - | 10.0 % | 80.00 ± 0.00 % | - | 1000 | 32 | 3 |' $page
    grep -qx '| full | 91.00 ± 2.48 % | 92.00 ± 0.00 % | 10.0 % | 80.00 ± 0.00 % | 91.00 ± 2.48 % (+0.00 ± 4.30 %) | 1000 | 32 | 3 |' $page
done
[ "$(tail -n 1 README.md)" = after ]
"$tool" --check

cp README.md before.md
for bad in '{"recipe": "x"}' '{"recipe": ["x"]}' 'no object' '{"recipe": "a|b"}'; do
    echo "$bad" >docs/results/d.json
    "$tool" >/dev/null 2>&1 && { echo "$bad is taken"; exit 1; }
    cmp before.md README.md
done
echo "results are taken from files, and bad files change nothing"
