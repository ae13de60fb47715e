#!/bin/sh
# --edit of predict, explain and eval, and --method ablation: no edit leaves every byte, every output of an edited run says so,
# records are taken from files, and what cannot be edited is refused before a picture is read.
set -u
. "$HEED_SOURCE_DIR/tests/support/toy_run.sh"
export HEED_ISA=portable

toy_recipe '  name: vit
  patch: 2
  width: 8
  blocks: 2
  heads: 2' >vit.yaml
expect 0 "$heed" train vit.yaml --out run
idx=data/t10k-images-idx3-ubyte
toy_pgm 3 cat.pgm
edit=block.0.self_attn:head=1:zero
npz=yes
"$heed" version | grep -q "libzip" || "$heed" explain run cat.pgm --orders 2 --method raw --format npz --out probe >/dev/null 2>&1 || npz=

# ---- predict ----

expect 0 "$heed" predict run "$idx" --logits
cp out plain
expect 0 "$heed" predict run "$idx" --logits --edit "$edit"
says out "edited: block.0.self_attn:head=1:zero"
checks=$((checks + 1))
sed 1d out | cmp -s plain - && fail "the edit changes no answer"
expect 0 "$heed" predict run "$idx" --logits --edit "$edit" --threads 3
checks=$((checks + 1))
sed 1d out >edited
cmp -s out edited && fail "an edited run does not say so"
expect 0 "$heed" predict run "$idx" --json --edit "$edit" --edit block.1.self_attn:row=0,key=0-3:scale=0.5
says out '"edits":["block.0.self_attn:head=1:zero","block.1.self_attn:row=0,key=0-3:scale=0.5"]}'
json out
expect 0 "$heed" predict run "$idx" --out edited.csv --edit "$edit"
says edited.csv ",edits"
says edited.csv ",block.0.self_attn:head=1:zero"
expect 0 "$heed" predict run "$idx" --json
checks=$((checks + 1))
grep -q edit out && fail "a run that is not edited speaks of edits"
expect 0 "$heed" predict run "$idx" --logits
checks=$((checks + 1))
cmp -s out plain || fail "without --edit other bytes come out"

# ---- eval ----

expect 0 "$heed" eval run --edit "$edit"
says out "edited    block.0.self_attn:head=1:zero"
expect 0 "$heed" eval run --json --edit "$edit"
says out '"edits":["block.0.self_attn:head=1:zero"]'
json_file out
expect 2 "$heed" eval run --edit "$edit" --curves curves
says err "leave out --edit"
checks=$((checks + 1))
[ ! -e curves ] || fail "a refused call made a folder"

# ---- explain ----

expect 0 "$heed" explain run cat.pgm --orders 2 --method raw --edit "$edit"
says out "edited: block.0.self_attn:head=1:zero"
expect 0 "$heed" explain run cat.pgm --orders 2 --method raw --edit "$edit" --format json
says out '"edits":["block.0.self_attn:head=1:zero"]'
expect 0 "$heed" explain run cat.pgm --orders 2 --method raw,ablation --edit "$edit" --format html,svg --out maps
for format in html svg; do
    says maps/cat.pgm.$format "block.0.self_attn:head=1:zero"
    says maps/cat.pgm.$format "What the model loses without each head"
done
expect 0 "$heed" explain run cat.pgm --method ablation
says out "What the model loses without each head"
checks=$((checks + 1))
[ "$(grep -c 'self_attn head' out)" = 4 ] || fail "two blocks of two heads give $(grep -c 'self_attn head' out) rows"
expect 0 "$heed" explain run cat.pgm --method ablation --json
says out '"maps":[],"ablation":{"label":'
json out
expect 0 "$heed" explain run cat.pgm --method ablation,all --orders 2 --json
says out '"method":"occlusion"'
says out '"ablation":'
expect 0 "$heed" explain run cat.pgm --method all --orders 2 --json
checks=$((checks + 1))
grep -q '"ablation"' out && fail "all maps are no ablation"

# ---- records ----

if [ -n "$npz" ]; then
    expect 0 "$heed" explain run "$idx[0:1]" --orders 2 --method raw --format npz --out records --edit "$edit"
    expect 0 "$heed" predict run "$idx[0:1]" --logits --edit "$edit"
    sed 1d out >edited
    record=records/t10k-images-idx3-ubyte_0.npz
    expect 0 "$heed" predict run "$idx[0:1]" --logits --edit "block.0.self_attn:take=$record" --edit "block.1.self_attn.weights:take=$record"
    sed 1d out >taken
    checks=$((checks + 1))
    cmp -s edited taken || fail "the weights of an edited run, taken, do not give its answer: $(cat edited taken)"
    expect 0 "$heed" predict run "$idx[0:1]" --tap 'block.*' --npz taps.npz --edit "$edit"
    expect 0 "$heed" predict run "$idx[1:2]" --edit "block.1.self_attn:take=taps.npz"
    expect 2 "$heed" predict run "$idx[0:1]" --edit "block.2.self_attn:take=$record"
    says err 'has no array "block.2.self_attn": it has block.0.self_attn, block.1.self_attn'
    expect 3 "$heed" predict run "$idx[0:1]" --edit "block.0.self_attn:take=cat.pgm"
    says err "no NPZ file"
fi

# ---- refusals ----

expect 2 "$heed" predict run none.png --edit block.0.selfattn:zero
says err "did you mean block.0.self_attn?"
says err "it has block.0.self_attn, block.1.self_attn"
expect 2 "$heed" explain run cat.pgm --edit block.0.self_attn:head=2:zero
says err "has 2 heads"
expect 2 "$heed" eval run --edit block.0.self_attn
says err "PATH:SELECTION:KIND"
expect 2 "$heed" predict run cat.pgm --edit block.0.self_attn:scale=big
says err '"big" is no number'
expect 0 "$heed" help edit
says out "take=FILE"

command_end
