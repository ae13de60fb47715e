#!/bin/sh
# What lies about on real disks: links that lead back or nowhere, pictures in no class, odd names, a run of a newer version,
# a second training in the same folder. Each is one sentence with place, rule and remedy, and nothing is lost.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"

# pictures FOLDER N: 8 x 8 greys, N of them, different in each folder
pictures() {
    mkdir -p "$1"
    awk -v n="$2" -v folder="$1" 'BEGIN {
        for (i = 0; i < length(folder); i++) salt = (salt * 31 + index("abcdefghijklmnopqrstuvwxyz/_", substr(folder, i + 1, 1))) % 251
        for (i = 0; i < n; i++) {
            path = folder "/" i ".pgm"
            printf("P2\n8 8\n255\n") > path
            for (k = 0; k < 64; k++) printf("%d ", (salt + i * 11 + k * (3 + i)) % 256) > path
            close(path)
        }
    }' </dev/null
}
train() {
    "$heed" train --task image-classification --set train.epochs=1 --set train.report=false "$@"
}

pictures set/cat 12
pictures set/dog 12
expect 0 train --data set --out run
says out "training    1 epoch, "

# ---- links ----

cp -r set loop && ln -s ../../loop loop/cat/again
expect 3 "$heed" data check loop
says err "loop/cat/again: a link leads back to loop, which it lies in; take the link away"
expect 3 train --data loop --out x
says err "loop/cat/again: a link leads back to loop"
expect 3 "$heed" predict run loop
says err "loop/cat/again: a link leads back to loop, which it lies in; take the link away"
cp -r set dangling && ln -s nowhere.pgm dangling/dog/gone.pgm
expect 3 "$heed" data check dangling
says out "bad         dog/gone.pgm: the file cannot be opened"
says err "1 file cannot be read"
expect 3 train --data dangling --out x
says err "dangling/dog/gone.pgm: the file cannot be opened"
expect 3 "$heed" predict run dangling
says err "dangling/dog/gone.pgm: the file cannot be opened"
says err "(--skip-bad N passes over N such pictures)"
expect 0 "$heed" predict run dangling --skip-bad 1

# ---- names, and pictures in no class ----

cp -r set stray && pictures stray 2
expect 0 train --data stray --out strayed
says err "2 pictures of stray that lie in no class were passed over; a class is a sub-folder"
cp -r set empty && mkdir empty/none
expect 3 "$heed" data check empty
says err "class none has no picture to train on; add some or take its folder away"
cp -r set named && pictures "named/$(printf '\033[31mred')" 3 && pictures "named/猫" 3
expect 0 "$heed" data check named
awk '/^class/ { on = 1 } /^all/ { on = 0 } on && /猫/ { wide = 1 } END { exit !wide }' out || fail "no line of 猫"
LC_ALL=C grep -q "^?\[31mred                       " out || fail "an escape is no cell of 24 columns"

# ---- runs ----

expect 3 "$heed" eval set
says err "so set is no run; a run is what heed train --out makes"
cp -r run newer
sed 's/"heed_version": "[^"]*"/"heed_version": "99.0.0"/; s/"conv-attention"/"mamba"/' run/config.json >newer/config.json
expect 3 "$heed" eval newer
says err "(heed 99.0.0 wrote this run, this is"
expect 0 "$heed" eval run --curves curves
expect 2 "$heed" eval run --curves curves
says err "curves/roc.csv is there already; --force writes over it"
expect 0 "$heed" eval run --curves curves --force

# ---- data that were moved: the test part is the same pictures, none that was trained on ----

expect 0 "$heed" eval run
samples=$(sed -n 's/^samples *\([0-9]*\),.*/\1/p' out)
mv set elsewhere
expect 3 "$heed" eval run
says err "set: the data that the run was trained on are not there; --data DIR names where they are"
expect 0 "$heed" eval run --data elsewhere
says out "samples   $samples, test part of elsewhere"
pictures elsewhere/cat/more 9
expect 0 "$heed" eval run --data elsewhere
says out "all of elsewhere"
rm -r elsewhere/cat/more
mv elsewhere set
expect 3 train --data set --out set/cat/0.pgm
says err "the folder cannot be made: a file has this name"
expect 0 train --data set --out "it's"
says out "next        heed eval 'it'\\''s'"

# ---- two trainings ----

"$heed" train --task image-classification --data set --out both --set train.epochs=100000 --set train.report=false >first 2>&1 &
first=$!
n=0
while [ ! -e both/checkpoints ] || [ -z "$(ls both/checkpoints)" ]; do
    n=$((n + 1))
    [ $n -lt 300 ] || { fail "no checkpoint within 30 s"; break; }
    sleep 0.1
done
expect 2 train --data set --out both
says err "another training (process $first) works in this folder"
kill "$first"
wait "$first"

command_end
