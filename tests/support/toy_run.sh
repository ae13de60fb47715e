# For tests of the command: sourced. What command.sh gives, and a toy data set of 48 + 16 pictures of 8 x 8 (class = bright
# quarter, class names with a comma and quotes). The script that sources this ends with command_end
. "$HEED_SOURCE_DIR/tests/support/command.sh"

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

mkdir data
toy_idx pictures 48 data/train-images-idx3-ubyte
toy_idx labels 48 data/train-labels-idx1-ubyte
toy_idx pictures 16 data/t10k-images-idx3-ubyte
toy_idx labels 16 data/t10k-labels-idx1-ubyte
toy_recipe '  name: mlp
  hidden: [8]' >toy.yaml
