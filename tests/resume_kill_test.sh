#!/bin/sh
# The real command, killed at random moments and resumed until it is done: the same weights, optimiser and log as a
# training that was left alone. And Ctrl-C: exit code 130, a set, and the command that goes on.
#   KILLS=1000 SEED=7 sh tests/resume_kill_test.sh
set -eu
heed=$HEED_BUILD_DIR/heed
seed=${SEED:-$(date +%s)}
kills=${KILLS:-60}
seconds=${SECONDS_MOST:-40}
dir=$(mktemp -d "${TMPDIR:-/tmp}/heed_kill.XXXXXX")
[ -w /dev/shm ] && { rmdir "$dir"; dir=$(mktemp -d /dev/shm/heed_kill.XXXXXX); }
trap 'rm -rf "$dir"' EXIT
cd "$dir"
fail()
{
    echo "resume_kill_test: $* (SEED=$seed)"
    exit 1
}

# 120 + 10 pictures of 4 x 4, from awk's own generator so that no tool is needed
octal()
{
    awk -v n="$1" -v most="$2" -v seed="$3" 'BEGIN {
        x = seed
        for (i = 0; i < n; i++) { x = (x * 1103515245 + 12345) % 2147483648; printf "\\%03o", int(x / 65536) % most }
    }'
}
part()
{
    count=$(printf '\\%03o' "$2")
    { printf "\\000\\000\\010\\003\\000\\000\\000$count\\000\\000\\000\\004\\000\\000\\000\\004"
      printf "$(octal $(($2 * 16)) 256 "$3")"; } >"$1-images-idx3-ubyte"
    { printf "\\000\\000\\010\\001\\000\\000\\000$count"; printf "$(octal "$2" 3 "$4")"; } >"$1-labels-idx1-ubyte"
}
part train 120 1 2
part t10k 10 3 4
cat >recipe.yaml <<EOF
data: {path: $dir, validation: 0.2, mirror: true, shift: 1}
model: {name: mlp, hidden: [6], dropout: 0.2}
train: {epochs: 12, batch_size: 8, lr: 0.01, accumulate: 2, ema: 0.9, checkpoint_steps: 5, clip_norm: 1, seed: 3}
EOF

newest()
{
    ls "$1/checkpoints" | sort -t - -k 2n -k 3n | tail -n 1
}
fingerprint()
{
    sed 's/,"seconds":.*//' "$1/metrics.jsonl" | cat - "$1/model.safetensors" "$1/config.json" \
        "$1/checkpoints/$(newest "$1")/model.safetensors" "$1/checkpoints/$(newest "$1")/optimizer.safetensors" |
        sha256sum
}

"$heed" train recipe.yaml --out alone --threads 1 >alone.out 2>alone.err || fail "it does not train: $(cat alone.err)"
want=$(fingerprint alone)
began=$(date +%s%N)
"$heed" train recipe.yaml --out timed --threads 1 >/dev/null 2>&1
length=$((($(date +%s%N) - began) / 1000000))
[ "$(fingerprint timed)" = "$want" ] || fail "two trainings that were left alone differ"

killed=0 runs=0 x=$seed stop=$(($(date +%s) + seconds))
while [ $killed -lt "$kills" ] && [ "$(date +%s)" -lt $stop ]; do
    rm -rf run
    runs=$((runs + 1))
    first="recipe.yaml --out run"
    while :; do
        # shellcheck disable=SC2086
        "$heed" train $first --threads $((1 + killed % 2)) >/dev/null 2>run.err &
        job=$!
        x=$(((x * 1103515245 + 12345) % 2147483648))
        sleep "$(awk -v ms=$((x / 65536 % (length / 2 + 20))) 'BEGIN { printf "%.3f", ms / 1000 }')"
        if kill -9 $job 2>/dev/null; then
            code=0
            wait $job 2>/dev/null || code=$?
            [ $code = 0 ] && break # it had just ended
            [ $code = 137 ] || fail "exit code $code: $(cat run.err)"
            killed=$((killed + 1))
        else
            wait $job || fail "exit code $?: $(cat run.err)"
            break
        fi
        first="recipe.yaml --out run --resume --fresh"
        [ "$(date +%s)" -lt $stop ] || { "$heed" train $first >/dev/null 2>&1 || fail "it does not go on"; break; }
    done
    [ "$(fingerprint run)" = "$want" ] || fail "after $killed kills the training ended otherwise"
done
echo "$killed random kills in $runs trainings (SEED=$seed): the same bits each time"
[ $killed -ge 10 ] || fail "only $killed kills in $seconds s"

rm -rf run
code=0
"$heed" train recipe.yaml --out run --set train.epochs=100000 --set train.checkpoint_steps=0 >/dev/null 2>int.err &
job=$!
tries=0
while [ ! -d run/checkpoints ] && [ $tries -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -INT $job
wait $job || code=$?
[ $code = 130 ] || fail "Ctrl-C: exit code $code, not 130: $(cat int.err)"
grep -q "heed train --out run --resume" int.err || fail "Ctrl-C does not tell how to go on: $(cat int.err)"
[ -f "run/checkpoints/$(newest run)/manifest.json" ] || fail "Ctrl-C leaves no set"
[ ! -e run/config.json ] || fail "a run that was stopped has a config.json"
[ ! -e run/lock ] || fail "a lock is left"
