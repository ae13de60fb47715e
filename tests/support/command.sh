# For tests of the command: sourced. A folder of its own as the working directory, and checks that count what they saw:
# expect CODE WORDS... (streams go to the files out and err), says FILE TEXT, is_file FILE, json FILE (each line is a
# document), json_file FILE (the whole file is one). The script ends with command_end.
heed=$HEED_BUILD_DIR/heed
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
unset HEED_THREADS HEED_ISA HEED_SEED HEED_DATA NO_COLOR FORCE_COLOR COLUMNS
failures=0 checks=0
python=${HEED_PYTHON:-python3}

have_python() {
    command -v "$python" >/dev/null
}
have_python || echo "# $python is not here, so that JSON is not parsed"

fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

expect() {
    code=$1
    shift
    "$@" >out 2>err
    got=$?
    checks=$((checks + 1))
    [ $got = "$code" ] && return
    fail "exit code $got, not $code: $*"
    tail -n 3 err
}

says() {
    checks=$((checks + 1))
    grep -qF -- "$2" "$1" || { fail "$1 does not say: $2"; head -n 5 "$1"; }
}

is_file() {
    checks=$((checks + 1))
    [ -s "$1" ] || { fail "no file $1"; ls -R . | head -n 30; }
}

json() {
    have_python || return
    checks=$((checks + 1))
    while IFS= read -r line; do
        printf '%s' "$line" | "$python" -m json.tool >/dev/null 2>json.err || { fail "no JSON: $line"; return; }
    done <"$1"
}

json_file() {
    have_python || return
    checks=$((checks + 1))
    "$python" -m json.tool "$1" >/dev/null 2>json.err || fail "no JSON: $(head -c 200 "$1")"
}

command_end() {
    echo "$checks checks, $failures failures"
    [ "$failures" = 0 ]
}
