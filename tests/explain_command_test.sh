#!/bin/sh
# heed explain as a program sees it: what is printed where, files and their names, refusals before the work, JSON lines.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"
export HEED_ISA=portable

# ---- 48 + 4 pictures of 8 x 8: class = bright quarter; a run of two steps ----

pictures() { # pictures COUNT: IDX on stdout
    printf '\000\000\010\003\000\000\000%b\000\000\000\010\000\000\000\010' "$(printf '\\0%o' "$1")"
    printf "$(awk "BEGIN { for (i = 0; i < $1; i++) for (y = 0; y < 8; y++) for (x = 0; x < 8; x++) printf \"\\\\%03o\",
        (int(y / 4) * 2 + int(x / 4) == i % 4 ? 200 : 0) + (i * 7 + y * 3 + x * 5) % 50 }")"
}
labels() {
    printf '\000\000\010\001\000\000\000%b' "$(printf '\\0%o' "$1")"
    printf "$(awk "BEGIN { for (i = 0; i < $1; i++) printf \"\\\\%03o\", i % 4 }")"
}
mkdir data
pictures 48 >data/train-images-idx3-ubyte
labels 48 >data/train-labels-idx1-ubyte
pictures 4 >data/t10k-images-idx3-ubyte
labels 4 >data/t10k-labels-idx1-ubyte
cat >toy.yaml <<'END'
task: image-classification
data: {path: data, classes: [upper left, upper right, lower left, "<b>lower right"], validation: 0.25}
model: {name: vit, patch: 2, width: 8, blocks: 1, heads: 2}
train: {max_steps: 2, batch_size: 8, optimizer: adam, lr: 0.01}
END
expect 0 "$heed" train toy.yaml --out run
idx=data/t10k-images-idx3-ubyte
pgm() { # pgm FILE: one picture
    mkdir -p "$(dirname "$1")"
    { printf 'P5\n8 8\n255\n'; dd if=$idx bs=1 skip=16 count=64 2>/dev/null; } >"$1"
}
pgm cat.pgm
pgm other/cat.pgm
pgm "other/two words, <i>.pgm"

# ---- on the terminal ----

expect 0 "$heed" explain run cat.pgm --orders 20
says out "cat.pgm: "
says out "raw (block.0.self_attn, mean of 2 heads"
says out "occlusion (each of 4 x 4 cells blanked)"
says out "Attention shows mixing weights, not causes."
checks=$((checks + 1))
[ -z "$(LC_ALL=C tr -d '\n -~' <out)" ] || fail "a pipe gets more than ASCII"
expect 0 "$heed" explain run cat.pgm --orders 20 --color always --method occlusion
says out "38;5;"
expect 0 env NO_COLOR=1 COLUMNS=40 "$heed" explain run cat.pgm --orders 20
checks=$((checks + 1))
[ -z "$(awk 'length > 40' out)" ] || fail "lines are wider than COLUMNS"
expect 0 "$heed" explain run "$idx[1:3]" --orders 5 --method raw --target 2
says out "t10k-images-idx3-ubyte[2]"
says out "> lower left"
expect 0 sh -c "'$heed' explain run - --method raw --orders 5 <cat.pgm"
says out "stdin: "

# ---- files ----

expect 0 "$heed" explain run cat.pgm other "$idx[3:4]" --orders 5 --method raw,occlusion --out maps/new
says out "maps/new/cat.pgm.html"
is_file maps/new/cat.pgm.html
is_file maps/new/cat.pgm_2.html
is_file "maps/new/two_words___i_.pgm.html"
is_file maps/new/t10k-images-idx3-ubyte_3.html
checks=$((checks + 1))
[ "$(ls maps/new | wc -l)" = 4 ] || fail "maps/new holds more than four files"
checks=$((checks + 1))
cp maps/new/cat.pgm.html old.html
grep -q '<b>lower' old.html && fail "a class name is markup"
expect 2 "$heed" explain run cat.pgm --orders 5 --out maps/new
says err "--force"
cmp -s old.html maps/new/cat.pgm.html || fail "a refused call changed a file"
expect 0 "$heed" explain run cat.pgm --orders 5 --method raw,occlusion --out maps/new --force
cmp -s old.html maps/new/cat.pgm.html || fail "the same call makes another page"
expect 0 "$heed" explain run cat.pgm --orders 5 --method raw,occlusion --out maps/new --force --threads 3
cmp -s old.html maps/new/cat.pgm.html || fail "three threads make another page"
for format in svg json png npz; do
    "$heed" explain run cat.pgm --orders 5 --method raw --format $format --out each >out 2>err
    got=$?
    checks=$((checks + 1))
    [ $got = 4 ] && grep -q "apt install" err && continue
    [ $got = 0 ] || { fail "--format $format ends with $got"; cat err; }
    is_file each/cat.pgm.$format
done
: >taken
expect 3 "$heed" explain run cat.pgm --orders 5 --out taken/maps
expect 3 "$heed" explain run cat.pgm --orders 5 --out taken
says err "a file has that name"

# ---- JSON lines ----

expect 0 "$heed" explain run "$idx" --orders 5 --json
checks=$((checks + 1))
[ "$(wc -l <out)" = 4 ] || fail "four pictures gave $(wc -l <out) lines"
if command -v python3 >/dev/null; then
    checks=$((checks + 1))
    python3 - <<'END' || fail "a line is no explanation"
import json
for i, line in enumerate(open("out", encoding="utf-8")):
    e = json.loads(line)
    assert e["input"].endswith(f"[{i}]") and e["classes"][3] == "<b>lower right"
    assert [m["method"] for m in e["maps"]] == ["raw", "rollout", "gradient", "received", "occlusion"]
    for m in e["maps"]:
        assert len(m["map"]) == m["rows"] == 4 and m["deletion"]["verdict"] in ("faithful", "no-better", "worse")
    for head in e["attentions"][0]["weights"][0]:
        for row in head:
            assert abs(sum(row) - 1) < 1e-5
END
fi
expect 0 "$heed" explain run cat.pgm --orders 5 --format json
checks=$((checks + 1))
[ "$(wc -l <out)" = 1 ] || fail "--format json without --out is one line"

# ---- refusals ----

expect 2 "$heed" explain run
says err "heed explain needs INPUT"
expect 2 "$heed" explain run cat.pgm --format svg
says err "--out DIR"
expect 2 "$heed" explain run cat.pgm --format term --out x
expect 2 "$heed" explain run cat.pgm --format term --json
expect 2 "$heed" explain run cat.pgm --format svg,jpeg --out x
says err '"jpeg" is none of'
expect 2 "$heed" explain run cat.pgm --method raw,
expect 2 "$heed" explain run cat.pgm --target 4
says err "classes are 0 to 3"
expect 2 "$heed" explain run cat.pgm --target "uper left"
says err "did you mean upper left?"
expect 2 "$heed" explain run cat.pgm --head 2 --orders 5
expect 2 "$heed" explain run cat.pgm --layer 7 --orders 5
expect 3 "$heed" explain run none.png
expect 3 "$heed" explain none cat.pgm
printf 'P5\n8 8\n255\nshort' >bad.pgm
expect 3 "$heed" explain run bad.pgm cat.pgm --orders 5
expect 0 "$heed" explain run bad.pgm cat.pgm --orders 5 --method raw --skip-bad 1
says err "passed over"
says out "cat.pgm: "

command_end
