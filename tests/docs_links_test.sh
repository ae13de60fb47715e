#!/bin/sh
# Pages hold together: every relative link leads to a file, every #part of a page to a heading of it, every row of a
# table has as many cells as its head, and every block of code is closed.
set -u
cd "$HEED_SOURCE_DIR" || exit 1
pages=$(find . -name '*.md' -not -path './build*' -not -path './data/*' -not -path './runs/*' -not -path './.*/*' | sort)
status=0
links=0

# A heading as a link spells it: lower case, no punctuation, - for spaces.
parts() # PAGE
{
    awk '/^```/ { code = !code } !code && /^#+ / { sub(/^#+ /, ""); print tolower($0) }' "$1" |
        sed 's/`//g; s/[]!-,.\/:;<=>?@[\\^{|}~]//g; s/ /-/g'
}

for page in $pages; do
    awk -v page="${page#./}" '
        function cells(row) {
            gsub(/\\\|/, "", row)
            sub(/^[ \t]*\|/, "", row); sub(/\|[ \t]*$/, "", row)
            return gsub(/\|/, "", row) + 1
        }
        /^[ \t]*```/ { code = !code; began = FNR }
        code { table = 0; next }
        /^[ \t]*\|/ {
            n = cells($0)
            if (table && n != table) { printf "%s:%d: %d cells, the head has %d\n", page, FNR, n, table; bad = 1 }
            if (!table) table = n
            next
        }
        { table = 0 }
        END {
            if (code) { printf "%s:%d: this block of code is not closed\n", page, began; bad = 1 }
            exit bad
        }' "$page" || status=1
    for link in $(awk '
        /^[ \t]*```/ { code = !code }
        !code {
            gsub(/`[^`]*`/, "")
            while (match($0, /\]\([^) ]+\)/)) { print substr($0, RSTART + 2, RLENGTH - 3); $0 = substr($0, RSTART + RLENGTH) }
        }' "$page"); do
        case $link in
        *://* | mailto:*) continue ;;
        esac
        links=$((links + 1))
        path=${link%%#*}
        target=$page
        [ -z "$path" ] || target=$(dirname "$page")/$path
        if [ ! -e "$target" ]; then
            echo "${page#./}: there is no $path"
            status=1
        elif [ "$path" != "$link" ]; then
            parts "$target" | grep -qxF -e "${link#*#}" || { echo "${page#./}: no heading for $link"; status=1; }
        fi
    done
done
echo "$links links in $(echo "$pages" | wc -l) pages"
exit $status
