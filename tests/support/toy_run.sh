# For tests of the command: sourced. A folder of its own as the working directory, a toy data set of 48 + 16 pictures of
# 8 x 8 (class = bright quarter, class names with a comma and quotes), and the checks of an exit code, a text and JSON.
# The script that sources this ends with: toy_end
heed=$HEED_BUILD_DIR/heed
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
unset HEED_THREADS HEED_ISA HEED_SEED HEED_DATA NO_COLOR FORCE_COLOR COLUMNS
failures=0 checks=0
python=${HEED_PYTHON:-python3}

fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

# expect CODE WORDS...: the exit code; out and err keep the streams.
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

says() { # says FILE TEXT
    checks=$((checks + 1))
    grep -qF -- "$2" "$1" || { fail "$1 does not say: $2"; tail -n 3 "$1"; }
}

have_python() {
    command -v "$python" >/dev/null
}

toy_octal() { awk "BEGIN { $1 }"; }

toy_idx() { # toy_idx pictures|labels COUNT FILE
    n=$2
    if [ "$1" = pictures ]; then
        printf '\000\000\010\003\000\000\000%b\000\000\000\010\000\000\000\010' "$(printf '\\0%o' "$n")" >"$3"
        printf "$(toy_octal "for (i = 0; i < $n; i++) for (y = 0; y < 8; y++) for (x = 0; x < 8; x++) printf \"\\\\%03o\",
            (int(y / 4) * 2 + int(x / 4) == i % 4 ? 200 : 0) + (i * 7 + y * 3 + x * 5) % 50")" >>"$3"
    else
        printf '\000\000\010\001\000\000\000%b' "$(printf '\\0%o' "$n")" >"$3"
        printf "$(toy_octal "for (i = 0; i < $n; i++) printf \"\\\\%03o\", i % 4")" >>"$3"
    fi
}

toy_pgm() { # toy_pgm RECORD FILE: picture RECORD of the test part as a PGM file
    { printf 'P5\n8 8\n255\n'; tail -c +$((17 + 64 * $1)) data/t10k-images-idx3-ubyte | head -c 64; } >"$2"
}

toy_recipe() { # toy_recipe MODEL-LINES >FILE
    cat <<END
task: image-classification
data:
  path: data
  classes: "one, \"two\", three, four"
  validation: 0.2
  mirror: ${2:-false}
model:
$1
train:
  epochs: 3
  batch_size: 8
  lr: 0.02
  seed: 4
END
}

toy_end() {
    echo "$checks checks, $failures failures"
    [ $failures = 0 ]
}

mkdir data
toy_idx pictures 48 data/train-images-idx3-ubyte
toy_idx labels 48 data/train-labels-idx1-ubyte
toy_idx pictures 16 data/t10k-images-idx3-ubyte
toy_idx labels 16 data/t10k-labels-idx1-ubyte
toy_recipe '  name: mlp
  hidden: [8]' >toy.yaml
