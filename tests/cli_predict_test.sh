#!/bin/sh
# heed predict: pictures, folders, IDX and stdin; CSV and NPZ; what is passed over and what is refused.
set -u
. "$HEED_SOURCE_DIR/tests/support/toy_run.sh"
toy_recipe '  name: conv-attention' >attention.yaml
expect 0 "$heed" train toy.yaml --out runs/a --threads 1
expect 0 "$heed" train attention.yaml --out runs/t --threads 1
pictures=data/t10k-images-idx3-ubyte
mkdir -p pics/sub
for i in 0 1 2 3; do toy_pgm $i pics/p$i.pgm; done
toy_pgm 5 pics/sub/q.pgm
echo text >pics/notes.txt

# ---- the same picture, whatever holds it ----

numbers() { sed 's/^[^ ]* *//' out; } # without the names
expect 0 "$heed" predict runs/a "$pictures[0:4]"
numbers >records
expect 0 "$heed" predict runs/a pics/p0.pgm pics/p1.pgm pics/p2.pgm pics/p3.pgm
numbers | cmp -s records - || fail "files say something else than the records they were made of"
expect 0 "$heed" predict runs/a pics
[ "$(sed 's/ .*//' out | tr '\n' ' ')" = "pics/p0.pgm pics/p1.pgm pics/p2.pgm pics/p3.pgm pics/sub/q.pgm " ] ||
    fail "a folder's pictures are not all there, or not in order"
says err "5 pictures in"
expect 0 sh -c "'$heed' predict runs/a - <pics/p2.pgm"
[ "$(numbers)" = "$(sed -n 3p records)" ] || fail "a picture from stdin says something else"
expect 0 "$heed" predict runs/a pics/p0.pgm --json
says out '{"input":"pics/p0.pgm","index":0,"top":[{"label":'
[ ! -s err ] || fail "one picture needs no summary"
expect 2 sh -c "'$heed' predict runs/a - - <pics/p2.pgm"
says err "- stands twice"
ls "${TMPDIR:-/tmp}"/heed-stdin-* 2>/dev/null | grep -q . && fail "a copy of stdin was left behind"

# ---- CSV ----

expect 0 "$heed" predict runs/a pics "$pictures[7:9]" --out r.csv --logits
[ ! -s out ] || fail "--out prints on stdout as well"
says err "r.csv: 7 rows"
says r.csv "$pictures[8],"
head -n 1 r.csv | grep -qF 'input,label,class,probability,p_one,"p_""two""",p_three,p_four,logit_one,' || fail "the CSV has another head"
[ "$(tr -cd '\r' <r.csv | wc -c)" = 8 ] || fail "rows of the CSV do not end in CR LF"
if have_python; then
    expect 0 "$python" -c '
import csv
rows = list(csv.DictReader(open("r.csv", newline="")))
assert len(rows) == 7 and len(rows[0]) == 12
for r in rows:
    p = [float(r["p_" + c]) for c in ("one", "\"two\"", "three", "four")]
    assert abs(sum(p) - 1) < 1e-6 and p.index(max(p)) == int(r["label"]) and float(r["probability"]) == max(p)
'
fi
expect 2 "$heed" predict runs/a pics --out r.csv
says err --force
cp r.csv old.csv
expect 3 "$heed" predict runs/a pics nothing.png --out r.csv --force
cmp -s r.csv old.csv || fail "a failed prediction changed the CSV"
expect 0 "$heed" predict runs/a pics --out r.csv --force --json
[ "$(wc -l <out)" = 5 ] || fail "--json with --out: not a line a picture"
expect 3 "$heed" predict runs/a pics --out none/r.csv
printf 'P5\n8 8\n255\n' >"pics/a,\"b\".pgm"
tail -c 64 pics/p0.pgm >>"pics/a,\"b\".pgm"
expect 0 "$heed" predict runs/a pics --out r.csv --force
says r.csv '"pics/a,""b"".pgm",'

# ---- bad pictures ----

echo nonsense >pics/bad.png
head -c 30 pics/p1.pgm >pics/cut.pgm
expect 3 "$heed" predict runs/a pics
says err "pics/bad.png"
expect 3 "$heed" predict runs/a pics --skip-bad 1
says err "pics/cut.pgm"
says err "(1 bad pictures were passed over before it)"
expect 0 "$heed" predict runs/a pics --skip-bad 2
says err "2 passed over; the last: pics/cut.pgm"
expect 3 "$heed" predict runs/a nothing.png --skip-bad 9
expect 3 "$heed" predict runs/a toy.yaml
says err "toy.yaml"
expect 3 "$heed" predict runs/a data/t10k-labels-idx1-ubyte
says err "labels, probably"
expect 3 "$heed" predict runs/a "$pictures[9:99]"
mkdir empty
expect 3 "$heed" predict runs/a empty
says err "there is no picture in this folder"
rm pics/bad.png pics/cut.pgm

# ---- taps ----

expect 2 "$heed" predict runs/t pics --tap pool.weights
says err "--tap needs --npz"
expect 2 "$heed" predict runs/t pics --npz t.npz
says err "--npz needs --tap"
expect 2 "$heed" predict runs/t pics --tap pool.weights --npz t.npz --average mirror
if "$heed" version --json | grep -q '"npz":{"present":true'; then
    expect 2 "$heed" predict runs/t pics --tap pool.weigths --npz t.npz
    says err "did you mean pool.weights?"
    expect 2 "$heed" predict runs/a pics --tap '*' --npz t.npz
    says err "has no taps"
    [ ! -e t.npz ] || fail "a refused tap left a file"
    expect 0 "$heed" predict runs/t "$pictures" pics --tap '*' --npz t.npz --tap-memory 1
    says err "t.npz: pool.weights f32 [22, "
    if have_python && "$python" -c 'import numpy' 2>/dev/null; then
        expect 0 "$python" -c '
import numpy
z = numpy.load("t.npz")
a, p = z["block.0.self_attn.weights"], z["pool.weights"]
assert a.shape[0] == p.shape[0] == 22 and a.ndim == 4
assert abs(p.sum(1) - 1).max() < 1e-5 and abs(a.sum(3) - 1).max() < 1e-5
assert (p[0] == p[17]).all()                    # record 0, and p0.pgm after a,"b".pgm
'
    else
        echo "# numpy is not here, so that nobody else reads the arrays"
    fi
    expect 2 "$heed" predict runs/t pics --tap '*' --npz t.npz
    says err --force
else
    expect 4 "$heed" predict runs/t pics --tap '*' --npz t.npz
    says err "apt install libzip-dev"
fi

# ---- pipes and signals ----

{ sleep 0.3; "$heed" predict runs/a pics 2>err; echo $? >code; } | true
[ "$(cat code)" = 141 ] || fail "closed pipe: exit code $(cat code), not 141"
{ sleep 0.3; "$heed" predict runs/a pics --out pipe.csv 2>err; echo $? >code; } | true
[ "$(cat code)" = 0 ] || fail "--out minds that nobody reads stdout"
[ -s pipe.csv ] || fail "no CSV where stdout is closed"
if [ -w /dev/full ]; then
    expect 3 sh -c "'$heed' predict runs/a pics >/dev/full"
    says err "cannot write the result"
fi
command_end
