#!/bin/sh
# The page of a run in a browser: it asks for nothing, its script says no error, and in Chinese no sentence of it is left
# in English.
set -eu
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "chromium is missing: apt install chromium"; exit 77; }
heed=$HEED_BUILD_DIR/heed
dir=$HEED_BUILD_DIR/report
rm -rf "$dir"
mkdir -p "$dir/profile"
"$HEED_BUILD_DIR/tests/toy_data" "$dir/data"
cat >"$dir/recipe.yaml" <<END
data: {path: $dir/data, classes: "one, <b>two</b>, \$(three)", validation: 0.3}
model: {name: conv-attention, stem: 4 P 8, heads: 2}
train: {epochs: 3, batch_size: 16, lr: 0.01}
END
"$heed" train "$dir/recipe.yaml" --out "$dir/run" --threads 1 >"$dir/said" 2>&1 || {
    cat "$dir/said"
    grep -q 'built without' "$dir/said" && exit 77
    exit 1
}
"$heed" report "$dir/run" --force --threads 1 >"$dir/said"
page=$dir/run/report.html
[ "$(cat "$dir/said")" = "$page" ] || { echo "heed report printed: $(cat "$dir/said")"; exit 1; }

if grep -nE '(src|href)="(https?:)?//|url\(|@import|fetch\(|XMLHttpRequest' "$page"; then
    echo "the page refers to something outside"
    exit 1
fi
if grep -n '<b>two' "$page"; then
    echo "a class got into the page as markup"
    exit 1
fi

# dom NAME FRAGMENT: the page as the browser has it after its script, and what the script complained of.
dom()
{
    timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --user-data-dir="$dir/profile" \
        --virtual-time-budget=2000 --enable-logging=stderr --dump-dom "file://$page#$2" >"$dir/$1.html" 2>"$dir/$1.log" || {
        tail -n 5 "$dir/$1.log"
        echo "the browser does not run here"
        exit 77
    }
    if grep -E 'CONSOLE' "$dir/$1.log"; then
        echo "$1: the page's script complained"
        exit 1
    fi
    grep -q 'class="ready' "$dir/$1.html" || { echo "$1: the script did not run"; exit 1; }
}
dom english en,light
dom chinese zh,dark
grep -q '<html lang="zh-CN"' "$dir/chinese.html" || { echo "the page is not in Chinese"; exit 1; }
grep -q 'Right on .* pictures of the test part' "$dir/english.html" || { echo "no result in English"; exit 1; }

# Elements that are sentences of ours: in Chinese each holds a character outside ASCII, but for names that stay.
left=$(sed '/<footer>/q' "$dir/chinese.html" | grep -oE '<[a-z0-9]+[^>]* data-i18n(="[^"]*")?[^>]*>[ -~]*</' | sed 's/.*>\([^<]*\)<\/$/\1/' |
    grep -vE '^(English|F1|ROC AUC|heed|)$' || true)
[ -z "$left" ] || { echo "not in Chinese: $left"; exit 1; }
echo "a page of $(wc -c <"$page") bytes in two languages"
