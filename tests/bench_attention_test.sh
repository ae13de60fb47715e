#!/bin/sh
# Benchmarks of attention: every row can be planned and is listed, small ones run, and what measures heed beside others says what it
# lacks. Times are never tested.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"

# rows FILE: its lines are documents, looked at together
rows() {
    { echo '['; sed '$!s/$/,/' "$1"; echo ']'; } >rows.json
    json_file rows.json
}

# names FILE: of its rows
names() {
    sed -n 's/^{"name":"\([^"]*\)".*/\1/p' "$1"
}

expect 0 "$heed" bench --filter attention --list --json
rows out
cp out list
for kind in full causal "window 256" "window 256 and globals" "block 64" bias alibi "dropout 0.1" "mean weights" "row probes" \
    "key probes" "top 8" "top 64" "top 512" layer "layer, mean weights"; do
    for tokens in 128 512 1024 2048 4096; do
        for pass in forward both; do
            says list "\"attention $kind $pass 4x8x${tokens}x64\""
        done
    done
done
for kind in "window 256" "window 256 and stride 16" "block 64, a band" linear; do
    says list "\"attention growth $kind forward 1x"
    says list "\"attention growth $kind both 1x"
done
says list "attention learned bias both 4x8x4096x64"
for kind in "training step" "training step, key probes"; do
    for tokens in 128 512 1024 2048 4096; do
        says list "\"attention $kind both 1x8x${tokens}x64\""
    done
done
expect 0 "$heed" bench --filter "training step both 1x8x128x64" --rounds 1 --milliseconds 1
says out "tiles"
expect 0 "$heed" bench --filter "training step, key probes both 1x8x128x64" --rounds 1 --milliseconds 1
says out "tiles"
grep -q "learned bias forward" list && fail "a learned bias has no row forward"
grep -q '"best"' list && fail "--list runs something"

# one round of every row that is short: the same rows, with numbers and without allocations
expect 0 "$heed" bench --filter 4x8x128x64 --rounds 1 --milliseconds 1 --json --threads 2
rows out
names out >ran
names list | grep 4x8x128x64 >listed
checks=$((checks + 1))
cmp -s ran listed || { fail "rows that run are not those that are listed"; diff listed ran; }
[ "$(grep -c '"best":' out)" = "$(grep -c . out)" ] || fail "a row of 128 tokens does not run"
grep '"allocations"' out | grep -v '"allocations":0' && fail "a run allocates"
expect 0 "$heed" bench --filter "growth window 256 forward 1x8x" --list
says out "1x8x32768x64"
expect 0 "$heed" bench --filter "attention full forward 4x8x128x64" --rounds 3 --milliseconds 1
says out "0 allocations"
expect 2 "$heed" bench --filter attention --rounds 100

# ---- beside others ----

expect 4 "$heed" bench --filter attention --against pytorch
says err "bench/peers --setup"
expect 4 env HEED_PEERS="$dir/none" "$HEED_SOURCE_DIR/bench/peers"
says err "bench/peers --setup"
mkdir bench
printf '#!/bin/sh\necho "$@"\nexit 7\n' >bench/peers
chmod +x bench/peers
expect 7 "$heed" bench --filter "attention causal" --against pytorch,onnxruntime --rounds 5 --json
says out "--against pytorch,onnxruntime --filter attention causal --rounds 5 --json"

# what answers the driver
side=$HEED_BUILD_DIR/bench/side
if [ -x "$side" ]; then
    printf 'time 1\nopen nothing\nopen attention layer both 4x8x128x64\nsave case.safetensors\ntime 0\nclose\n' >lines
    expect 0 sh -c "'$side' --threads 2 <lines"
    json out
    says out '{"error": "time before open"}'
    says out 'no benchmark is named'
    says out '"runs": 1'
    expect 0 "$heed" info case.safetensors
    says out layer.in_proj_weight
    says out dx
else
    echo "# no bench/side here: it is built with the tests"
fi
command_end
