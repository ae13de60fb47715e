# For tests of the command: sourced. What command.sh gives, and a toy data set of 48 + 16 pictures of 8 x 8 (class = bright
# quarter, class names with a comma and quotes). The script that sources this ends with command_end
. "$HEED_SOURCE_DIR/tests/support/command.sh"
. "$HEED_SOURCE_DIR/tests/support/toy_idx.sh"

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
