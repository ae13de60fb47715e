#!/bin/sh
# Code in the pages is code that is compiled: a block below <!-- file: PATH --> is that file, line by line, and a number
# between <!-- lines: PATH --> and <!-- /lines --> is how many lines it has.
set -u
cd "$HEED_SOURCE_DIR" || exit 1
status=0
count=0
for page in *.md docs/*.md recipes/*.md; do
    [ -e "$page" ] || continue
    for path in $(sed -n 's/^<!-- file: \(.*\) -->$/\1/p' "$page"); do
        awk -v path="$path" '
            $0 == "<!-- file: " path " -->" { wanted = 1; next }
            wanted && /^```/ { wanted = 0; inside = 1; next }
            wanted { exit 1 }
            inside && /^```$/ { exit 0 }
            inside' "$page" | diff -u "$path" - || { echo "$page: the block is not $path"; status=1; }
        count=$((count + 1))
    done
    grep -o '<!-- lines: [^ ]* -->[0-9]*<!-- /lines -->' "$page" | sed 's/<!-- lines: \(.*\) -->\(.*\)<!.*/\1 \2/' >"$HEED_BUILD_DIR/quoted_lines"
    while read -r path lines; do
        [ "$(wc -l <"$path")" -eq "$lines" ] || { echo "$page: $path has $(wc -l <"$path") lines, not $lines"; status=1; }
        count=$((count + 1))
    done <"$HEED_BUILD_DIR/quoted_lines"
done
[ $count -gt 0 ] || { echo "no page quotes a file"; exit 1; }
echo "$count quotations"
exit $status
