#!/bin/sh
# heed eval: numbers, tables, JSON, curves, and what it refuses. Where scikit-learn is there (HEED_PYTHON) the numbers are
# compared with its own, from what heed predict says of the same pictures.
set -u
. "$HEED_SOURCE_DIR/tests/support/toy_run.sh"
toy_recipe '  name: conv-attention' true >mirror.yaml
expect 0 "$heed" train toy.yaml --out runs/a --threads 1
expect 0 "$heed" train mirror.yaml --out runs/m --threads 1

# ---- text ----

expect 0 "$heed" eval runs/a
says out "samples   16, test part of data"
says out "always naming the commonest class: 0.2500"
says out "95 % interval of one pass (Wilson)"
for word in "log loss" ECE balanced precision recall F1 ROC-AUC AP "macro mean" weighted micro "row: true class"; do
    says out "$word"
done
says out '       4 "two"  '
grep -q "mirror" out && fail "mirror images where training had none"
expect 0 "$heed" eval runs/m --average mirror
says out "mean of picture and mirror image"
says out "95 % interval of the mean"
expect 2 "$heed" eval runs/a --average mirror
says err "trained without mirror images"
[ "$(expect 0 "$heed" eval runs/a; awk 'length > 100' out | wc -l)" = 0 ] || fail "a line of more than 100 columns"

# ---- JSON ----

expect 0 "$heed" eval runs/a --json
cp out eval.json
says out '{"n":16,"metrics":{"accuracy":'
says out '"part":"test part of data"'
expect 0 "$heed" eval runs/m --json --average mirror
says out '"average":"mirror"'
says out '"accuracy_mirror":'

# ---- curves ----

expect 0 "$heed" eval runs/a --curves deep/curves
says out "deep/curves: roc.svg, pr.svg, roc.csv, pr.csv"
for file in roc pr; do
    [ "$(head -n 1 deep/curves/$file.csv | tr -d '\r')" = class,x,y,threshold ] || fail "$file.csv has another head"
    says deep/curves/$file.csv '"""two""",'
    says deep/curves/$file.svg "</svg>"
done
cp -r deep/curves first
expect 0 "$heed" eval runs/a --curves deep/curves --force --threads 2
for file in roc.csv pr.csv roc.svg pr.svg; do
    cmp -s first/$file deep/curves/$file || fail "$file: another time, other bytes"
done
: >file
expect 3 "$heed" eval runs/a --curves file/below
expect 3 "$heed" eval runs/a --curves file

# ---- what is refused ----

expect 3 "$heed" eval runs/none
expect 3 "$heed" eval runs/a --data nowhere
mkdir more
cp data/* more
toy_idx labels 16 more/t10k-labels-idx1-ubyte
printf '\011' | dd of=more/t10k-labels-idx1-ubyte bs=1 seek=23 conv=notrunc 2>/dev/null
expect 3 "$heed" eval runs/a --data more
says err "labels up to 9, the model has 4 classes"

# ---- which samples: a folder of classes without a test part of its own ----

i=0
while [ $i -lt 16 ]; do
    mkdir -p classes/c$((i % 4))
    toy_pgm $i classes/c$((i % 4))/$i.pgm
    i=$((i + 1))
done
sed 's/path: data/path: classes\
  test: 0.3\
  size: 8/; /classes:/d' toy.yaml >folder.yaml
expect 0 "$heed" train folder.yaml --out runs/f --threads 1
expect 0 "$heed" eval runs/f
says out "test part of classes: the share of 0.3 that the digest of a picture puts aside"
cp -r classes other
expect 0 "$heed" eval runs/f --data other     # a copy: most of it was trained on
says out "test part of other: the share of 0.3"
cp -r classes/c1 other/c1/again
expect 0 "$heed" eval runs/f --data other
says out "samples   20, all of other"
mkdir other/zebra
cp classes/c0/0.pgm other/zebra
expect 3 "$heed" eval runs/f --data other
says err "the folder has c0, c1, c2, c3, zebra; known are c0, c1, c2, c3"

# ---- pipes ----

{ sleep 0.3; "$heed" eval runs/a --json 2>err; echo $? >code; } | true
[ "$(cat code)" = 141 ] || fail "closed pipe: exit code $(cat code), not 141"

# ---- scikit-learn's numbers ----

expect 0 "$heed" predict runs/a data/t10k-images-idx3-ubyte --out p.csv
if have_python && "$python" -c 'import sklearn' 2>/dev/null; then
    cat >compare.py <<'END'
import csv, json, warnings
import numpy as np
from sklearn import metrics as sk
warnings.simplefilter("ignore")
e = json.load(open("eval.json"))
p = np.array([[float(v) for v in r[4:8]] for r in list(csv.reader(open("p.csv", newline="")))[1:]], np.float64)
y = np.arange(16) % 4
best = p.argmax(1)
m = e["metrics"]
macro = sk.precision_recall_fscore_support(y, best, labels=range(4), average="macro", zero_division=0)
wanted = {
    "accuracy": sk.accuracy_score(y, best), "balanced_accuracy": sk.balanced_accuracy_score(y, best),
    "log_loss": sk.log_loss(y, p), "roc_auc": sk.roc_auc_score(y, p / p.sum(1, keepdims=True), multi_class="ovr"),
    "average_precision": np.mean([sk.average_precision_score(y == k, p[:, k]) for k in range(4)]),
}
for k, v in wanted.items():
    assert abs(m[k] - v) < 1e-6, (k, m[k], v)
assert np.allclose([m["macro"][k] for k in ("precision", "recall", "f1")], macro[:3])
assert (np.array(e["confusion"]) == sk.confusion_matrix(y, best)).all()
END
    expect 0 "$python" compare.py
else
    echo "# scikit-learn is not here (HEED_PYTHON names a Python that has it), so that its numbers are not compared"
fi
command_end
