#!/bin/sh
# The command as a program sees it: exit codes, what stdout and stderr carry, JSON, signals, pipes. Options are taken
# from the help pages, so that a new one is tested without a line here.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"

# ---- help ----

commands=$("$heed" help | sed -n '/^usage/,/^heed help/s/^  \([a-z]*\)  .*/\1/p')
for word in train eval predict info help version; do
    case " $(echo $commands) " in *" $word "*) ;; *) fail "heed help does not list $word" ;; esac
done
expect 0 "$heed" help --markdown
cp out cli.md
cmp -s cli.md "$HEED_SOURCE_DIR/docs/cli.md" ||
    fail "docs/cli.md is not what the command prints: build/heed help --markdown > docs/cli.md"
expect 0 "$heed" help --man
if command -v groff >/dev/null; then
    warnings=$(groff -man -Tutf8 -ww -z out 2>&1)
    [ -z "$warnings" ] || fail "groff warns: $warnings"
fi
expect 0 "$heed" help recipes
says out train.label_smoothing
says out "With model.name conv-attention"
for topic in exit-codes attention isa environment; do
    expect 0 "$heed" help $topic
    [ -s out ] || fail "heed help $topic is empty"
done
expect 2 "$heed" help exit-code
says err "did you mean exit-codes?"
expect 2 "$heed" help --man --markdown
expect 2 "$heed"
says err "usage: heed COMMAND"
expect 0 "$heed" --help
expect 0 "$heed" -h
expect 0 "$heed" --version
says out "heed 0."
says out portable
expect 0 "$heed" version --json
json out
expect 2 "$heed" trian
says err "did you mean train?"
expect 2 "$heed" --threads 2 train
expect 0 "$heed" completion bash
if command -v bash >/dev/null; then
    cat >complete.sh <<'END'
. ./out
COMP_WORDS=(heed "$@") COMP_CWORD=$#
_heed
echo "${COMPREPLY[@]}"
END
    [ "$(bash complete.sh pred)" = predict ] || fail "bash does not complete pred"
    [ "$(bash complete.sh train --thr)" = --threads ] || fail "bash does not complete --thr"
    [ "$(bash complete.sh train --isa = neo)" = neon ] || fail "bash does not complete --isa=neo"
    [ "$(bash complete.sh help exit)" = exit-codes ] || fail "bash does not complete a topic"
fi
expect 0 "$heed" completion zsh
expect 2 "$heed" completion fish
says err "bash|zsh"

# ---- every option of every command: without its value, with a bad one, at its limits ----

options=0
for command in $commands; do
    "$heed" help "$command" --markdown | sed -n 's/^| `\(--[^`]*\)` | \(.*\) |$/\1	\2/p' >options
    "$heed" "$command" --help >page || fail "heed $command --help"
    while IFS='	' read -r words doc; do
        set -- $words
        flag=$1
        value=${2:-}
        options=$((options + 1))
        grep -qF -- "  $flag" page || fail "heed $command --help does not list $flag"
        [ "$flag" != --help ] || continue
        if [ -z "$value" ]; then
            expect 2 "$heed" "$command" "$flag=yes"
            says err "$flag takes no value"
            continue
        fi
        expect 2 "$heed" "$command" "$flag"
        says err "$flag needs a value"
        expect 2 "$heed" "$command" "$flag" --
        case $words in
        *"|"*)
            expect 2 "$heed" "$command" "$flag" nonsense
            says err "is none of"
            expect 2 "$heed" "$command" "$flag="
            ;;
        *" N" | *" K")
            for bad in "" x 1x 0x10 1.5 " 1" +1 99999999999999999999; do
                expect 2 "$heed" "$command" "$flag=$bad"
                says err "is no whole number"
            done
            limits=$(printf '%s\n' "$doc" | sed -n 's/.*\. \([0-9]*\) to \([0-9]*\)\..*/\1 \2/p')
            set -- $limits
            [ $# = 2 ] || { fail "heed $command $flag tells no limits"; continue; }
            expect 2 "$heed" "$command" "$flag" $(($1 - 1))
            says err "is outside"
            expect 2 "$heed" "$command" "$flag" $(($2 + 1))
            says err "is outside"
            "$heed" "$command" "$flag" "$2" --no-such-option >out 2>err
            says err "no option --no-such-option"
            ;;
        *"KEY=VALUE") ;;
        *)
            expect 2 "$heed" "$command" "$flag="
            says err "is empty"
            ;;
        esac
    done <options
    expect 2 "$heed" "$command" --colour always
    says err "did you mean --color?"
done
[ "$options" -gt 20 ] || fail "only $options options were found"
expect 2 "$heed" train --theads 2
says err "did you mean --threads?"
expect 2 "$heed" eval
says err "heed eval needs RUN"
expect 2 "$heed" eval a b
says err "one word too many"
expect 2 "$heed" eval -x
expect 3 "$heed" eval -- --threads
says err "--threads"
expect 2 env HEED_THREADS=many "$heed" eval runs/x
says err "HEED_THREADS"
expect 3 "$heed" eval runs/none
expect 3 env HEED_THREADS= "$heed" eval runs/none
other=neon
[ "$(uname -m)" = aarch64 ] && other=x86-64-v3
expect 4 "$heed" eval runs/none --isa $other
expect 4 env HEED_ISA=$other "$heed" eval runs/none

# ---- train, eval, predict on 48 + 16 pictures of 8 x 8: class = bright quarter ----

. "$HEED_SOURCE_DIR/tests/support/toy_idx.sh"
mkdir data
toy_idx pictures 48 data/train-images-idx3-ubyte
toy_idx labels 48 data/train-labels-idx1-ubyte
toy_idx pictures 16 data/t10k-images-idx3-ubyte
toy_idx labels 16 data/t10k-labels-idx1-ubyte
cat >toy.yaml <<'END'
task: image-classification
data:
  path: data
  classes: "one, \"two\", three, four"
  validation: 0.2
  mirror: false
model:
  name: mlp
  hidden: [8]
train:
  epochs: 3
  batch_size: 8
  lr: 0.02
  seed: 4
END
sed 's/mirror: false/mirror: true/' toy.yaml >mirror.yaml

expect 0 "$heed" train toy.yaml --print-config
says out "seed: 4  # toy.yaml:"
says out "batch_size: 8"
expect 0 "$heed" train toy.yaml --print-config --seed=9
says out "seed: 9  # --seed"
expect 0 env HEED_SEED=5 "$heed" train toy.yaml --print-config
says out "seed: 5  # HEED_SEED"
expect 0 env HEED_SEED=5 "$heed" train toy.yaml --print-config --set train.seed=6
says out "seed: 6  # --set"
expect 0 env HEED_SEED=5 "$heed" train toy.yaml --print-config --seed 7 --set train.seed=6
says out "seed: 7  # --seed"
expect 2 "$heed" train toy.yaml
says err "needs --out"
expect 2 "$heed" train toy.yaml --out runs/a --set train.epoch=3
says err train.epochs
expect 2 "$heed" train toy.yaml --out runs/a --set train.epochs
expect 3 "$heed" train none.yaml --out runs/a
[ ! -e runs ] || fail "a refused training made a folder"

expect 0 "$heed" train toy.yaml --out runs/a --threads 1
says out "always naming the commonest class"
says out "next        heed eval runs/a"
says err "epoch 3/3"
tr -d '\r' <err | cmp -s - err || fail "a carriage return where there is no terminal"
sha=$(sed -n 's/.*sha256 //p' out)
for file in config.json model.safetensors recipe.yaml metrics.jsonl README.md; do
    [ -s runs/a/$file ] || fail "the run has no $file"
done
json runs/a/metrics.jsonl
expect 2 "$heed" train toy.yaml --out runs/a
says err --force
expect 0 "$heed" train toy.yaml --out runs/a --force --json --threads 2
json out
[ "$(wc -l <out)" = 4 ] || fail "train --json: not a line an epoch and one for the run"
says out "\"sha256\":\"$sha\""
says out '"baseline_accuracy":'
[ "$(head -n 1 out | grep -c '"validation_accuracy"')" = 1 ] || fail "train --json: an epoch without validation"
expect 0 "$heed" train mirror.yaml --out runs/m --force

expect 0 "$heed" eval runs/a
says out "accuracy"
says out "always naming"
expect 0 "$heed" eval runs/a --json
json out
says out '{"n":16,"metrics":{"accuracy":'
grep -q accuracy_mirror out && fail "accuracy_mirror where training did not mirror"
cp out one
expect 0 "$heed" eval runs/a --json --threads 2 --data data
cmp -s out one || fail "eval: two threads, another result"
expect 0 "$heed" eval runs/m --json
says out '"accuracy_mirror":'
expect 0 "$heed" eval runs/m
says out "mean of picture and mirror image"
expect 3 "$heed" eval runs/a --data none

pictures=data/t10k-images-idx3-ubyte
expect 0 "$heed" predict runs/a $pictures --json --logits --top-k 2
json out
[ "$(wc -l <out)" = 16 ] || fail "predict: not a line a picture"
[ "$(grep -c '"index":' out)" = 16 ] || fail "predict: no index"
says out "{\"input\":\"$pictures\",\"index\":0,\"top\":[{\"label\":"
sed 's/"input":"[^"]*"//' out >whole
expect 0 "$heed" predict runs/a "$pictures[3:5]" "$pictures[0:1]" --json --logits --top-k 2
sed 's/"input":"[^"]*"//' out >part
{ sed -n 4,5p whole; sed -n 1p whole; } | cmp -s - part || fail "predict: a range is not a part of the whole"
expect 0 sh -c "'$heed' predict runs/a - --json --logits --top-k 2 <$pictures"
sed 's/"input":"[^"]*"//' out | cmp -s - whole || fail "predict: stdin gives other results than the file"
expect 0 sh -c "cat $pictures | '$heed' predict runs/a -- -"
says out "-[15]"
expect 3 sh -c "echo nonsense | '$heed' predict runs/a -"
says err stdin
expect 0 "$heed" predict runs/a $pictures --top-k 1000000 --average mirror
expect 3 "$heed" predict runs/a toy.yaml
expect 3 "$heed" predict runs/a "$pictures[9:99]"
expect 2 "$heed" predict runs/a

expect 0 "$heed" info runs/a
says out "mlp, "
says out "head.weight"
expect 0 "$heed" info runs/a --json --plan --graph text
json out
for form in text mermaid svg; do
    expect 0 "$heed" info runs/a --graph $form
    [ -s out ] || fail "no graph as $form"
done
says out "</svg>"
if command -v python3 >/dev/null; then
    python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse("out")' 2>xml.err || fail "the drawing is no XML"
fi
expect 0 "$heed" info runs/a --plan --batch 7
says out "[7,"
expect 0 "$heed" info runs/a
says out "the same bits as after training"

expect 0 "$heed" train toy.yaml --out runs/p --profile p.json
says err "of peak"
json_file p.json
expect 2 "$heed" train toy.yaml --out runs/p2 --profile p.json
says err --force
[ ! -e runs/p2 ] || fail "a refused profile began a training"
expect 0 "$heed" predict runs/p data/t10k-images-idx3-ubyte --profile p.json --force
json_file p.json
expect 0 "$heed" bench --filter "gemm 64" --milliseconds 1 --profile b.json
json_file b.json
expect 3 "$heed" predict runs/p data/t10k-images-idx3-ubyte --profile none/there.json

expect 2 "$heed" doctor
says err --rules
expect 0 "$heed" doctor --rules
says out double-softmax
expect 0 "$heed" doctor --rules --json
json out
"$heed" doctor runs/a --json >out 2>err # three epochs on eight by eight pictures: it may find something
[ $? -le 1 ] || fail "heed doctor runs/a"
json out
says out '"looked":["not-finite"'
cp -R runs/a runs/edited
sed 's/"image_std": \[/"image_std": [1/' runs/a/preprocessor_config.json >runs/edited/preprocessor_config.json
expect 1 "$heed" doctor runs/edited
says out "self-test"
says out "remedy: "
[ ! -s err ] || fail "heed doctor writes findings to stderr"
expect 0 "$heed" info runs/edited
says out "other numbers than after training"
expect 3 "$heed" doctor none

expect 0 "$heed" info runs/a/model.safetensors
says out head.bias
expect 0 "$heed" info runs/a/model.safetensors --json
json out
says out '"name":"head.bias","dtype":"F32","shape":[4],"bytes":16}'
expect 2 "$heed" info runs/a/model.safetensors --plan
expect 3 "$heed" info toy.yaml
expect 3 "$heed" info none
expect 3 "$heed" demo
says out "heed train"

expect 0 "$heed" export runs/a --onnx toy.onnx
says out "toy.onnx: ONNX, opset 17"
[ -s toy.onnx ] || fail "no ONNX file"
expect 2 "$heed" export runs/a --onnx toy.onnx
says err --force
expect 0 "$heed" export runs/a --onnx toy.onnx --force --opset 20
expect 2 "$heed" export runs/a
says err --onnx
expect 3 "$heed" export runs/none --onnx none.onnx
[ ! -e none.onnx ] || fail "a failed export left a file"

# ---- bench: that it runs; its times are never tested ----

expect 0 "$heed" bench --filter "gemm 64x64" --milliseconds 1 --json --threads 1
json out
says out '"name":"gemm 64x64x6272","threads":1,"rounds":'
expect 0 "$heed" bench --filter "row relu" --milliseconds 1
says out "row relu_grad"
expect 0 "$heed" bench --filter "1 picture" --milliseconds 1 --isa portable
expect 0 "$heed" bench --filter start --milliseconds 1
expect 0 "$heed" bench --filter "decode step 1x512" --milliseconds 1
says out "p99"
expect 2 "$heed" bench --filter nothing
says err "no benchmark"

# ---- colours, pipes, a full disk, Ctrl-C ----

expect 0 env FORCE_COLOR=1 "$heed" eval runs/a
grep -q "$(printf '\033')" out || fail "FORCE_COLOR has no colour"
expect 0 env FORCE_COLOR=1 NO_COLOR=1 "$heed" eval runs/a
grep -q "$(printf '\033')" out && fail "NO_COLOR has colour"
expect 0 env NO_COLOR=1 "$heed" eval runs/a --color always
grep -q "$(printf '\033')" out || fail "--color always has no colour"
expect 0 env FORCE_COLOR=1 "$heed" eval runs/a --color=never
grep -q "$(printf '\033')" out && fail "--color=never has colour"

for words in "help --markdown" "eval runs/a" "predict runs/a $pictures" "info runs/a" "train toy.yaml --out runs/pipe --json"; do
    { sleep 0.3; "$heed" $words 2>err; echo $? >code; } | true
    [ "$(cat code)" = 141 ] || fail "closed pipe: exit code $(cat code), not 141: heed $words"
    grep -q heed: err && fail "closed pipe: heed $words complains"
done
[ -s runs/pipe/model.safetensors ] || fail "a reader that went away ended the training"
if [ -w /dev/full ]; then
    expect 3 sh -c "'$heed' eval runs/a >/dev/full"
    says err "cannot write the result"
fi
expect 3 sh -c "'$heed' eval runs/a >&-"

"$heed" train toy.yaml --out runs/long --set train.epochs=1000000 --json >long.out 2>long.err &
job=$!
tries=0
while [ ! -s long.out ] && [ $tries -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -INT $job
wait $job
got=$?
[ $got = 130 ] || fail "Ctrl-C: exit code $got, not 130"
says long.err "was stopped"
says long.err "heed train --out runs/long --resume"
expect 3 "$heed" eval runs/long
says err "is not finished"

if command -v script >/dev/null && script -qec true /dev/null >/dev/null 2>&1 </dev/null; then
    script -qec "TERM=xterm '$heed' train toy.yaml --out runs/tty --force" /dev/null >tty </dev/null
    grep -q "$(printf '\r\033\[K')" tty || fail "no bar on a terminal"
    grep -q "$(printf '\033\[36m')" tty || fail "no colour on a terminal"
    script -qec "TERM=xterm NO_COLOR=1 '$heed' train toy.yaml --out runs/tty --force" /dev/null >tty </dev/null
    grep -q "$(printf '\033\[3')" tty && fail "NO_COLOR has colour on a terminal"
    script -qec "TERM=dumb '$heed' train toy.yaml --out runs/tty --force" /dev/null >tty </dev/null
    grep -q "$(printf '\033')" tty && fail "a dumb terminal gets escapes"
else
    echo "# script is not here or there are no pseudo-terminals, so that the terminal is not tested"
fi

echo "$checks checks, $options options of $(echo $commands | wc -w) commands, $failures failures"
[ $failures = 0 ]
