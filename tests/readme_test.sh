#!/bin/sh
# Every command of README.md and docs/tutorial.md runs, in a folder that looks like a fresh clone; the page in Chinese
# beside each shows the same commands.
#
# A block of commands (```sh) runs as it stands, or as the comment above it says:
#   <!-- test:
#   needs PATH          nothing is run when PATH is not there, and the reason is printed
#   needs heed COMMAND  nor when the command is not there
#   command more words  each command of the block in turn, with what makes it short: it must begin with the command
#   -->
set -u
cd "$HEED_SOURCE_DIR" || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL

# blocks PAGE FOLDER: N.shown, what the reader sees; N.run, what is run; N.needs
blocks()
{
    awk -v to="$2" '
        function flush_test() { tests = 0; needs = "" }
        /^<!-- test:$/ { in_test = 1; flush_test(); next }
        in_test && /^-->$/ { in_test = 0; next }
        in_test && /^needs / { needs = needs substr($0, 7) "\n"; next }
        in_test { test[++tests] = $0; next }
        /^```sh$/ { code = 1; n++; shown = to "/" n ".shown"; run = to "/" n ".run"; printf "%s", needs >(to "/" n ".needs"); i = 0; next }
        code && /^```$/ {
            code = 0
            if (tests && i != tests) { printf "block %d: %d commands, its comment has %d\n", n, i, tests; bad = 1 }
            close(shown); close(run); flush_test()
            next
        }
        code {
            print >shown
            command = $0
            sub(/[ \t]+#.*/, "", command)
            if (command !~ /[^ \t]/ || command ~ /^#/) next
            i++
            if (tests && index(test[i] " ", command " ") != 1) { printf "block %d: \"%s\" is tested as \"%s\"\n", n, command, test[i]; bad = 1 }
            print tests ? test[i] : command >run
        }
        END { exit bad }' "$1"
}

# page PAGE PAGE-IN-CHINESE: adds to $skipped and $count.
skipped= count=0
page()
{
    name=$(basename "$1" .md)
    dir=$HEED_BUILD_DIR/readme_test/$name
    rm -rf "$dir"
    mkdir -p "$dir/clone" "$dir/blocks" "$dir/zh"
    blocks "$1" "$dir/blocks" || { echo "in $1"; exit 1; }
    blocks "$2" "$dir/zh" || { echo "in $2"; exit 1; }
    n_blocks=$(ls "$dir/blocks" | grep -c '\.shown$')
    [ "$n_blocks" -gt 0 ] || { echo "$1 has no commands"; exit 1; }
    for block in $(ls "$dir/blocks" "$dir/zh" | grep '\.run$' | sort -u); do
        # Comments of the reader's language differ; commands and their short forms do not.
        diff -u "$dir/blocks/$block" "$dir/zh/$block" || { echo "$2 has other commands in block ${block%.run}"; exit 1; }
    done

    # A clone with its build folder and data in place.
    for entry in $(ls -A | grep -vE '^(\.git|build.*|data|runs)$'); do
        ln -s "$HEED_SOURCE_DIR/$entry" "$dir/clone/$entry"
    done
    ln -s "$HEED_BUILD_DIR" "$dir/clone/build"
    [ ! -d data ] || ln -s "$HEED_SOURCE_DIR/data" "$dir/clone/data"
    cd "$dir/clone" || exit 1
    n=1
    while [ $n -le "$n_blocks" ]; do
        missing=
        while read -r path; do
            case $path in
            'heed '*) build/heed help "${path#heed }" >"$dir/log" 2>&1 || missing="$missing $path" ;;
            ?*) [ -e "$path" ] || missing="$missing $path" ;;
            esac
        done <"$dir/blocks/$n.needs"
        if [ -n "$missing" ]; then
            skipped="$skipped block $n of $1 needs$missing;"
        elif ! sh -eu "$dir/blocks/$n.run" >"$dir/log" 2>&1; then
            cat "$dir/blocks/$n.run" "$dir/log"
            echo "$1: block $n failed"
            exit 1
        fi
        n=$((n + 1))
    done
    count=$((count + n_blocks))
    cd "$HEED_SOURCE_DIR" || exit 1
}

page README.md README.zh.md
page docs/tutorial.md docs/tutorial.zh.md
[ -z "$skipped" ] || { echo "of $count blocks not run:$skipped (make demo brings data and command)"; exit 77; }
echo "$count blocks"
