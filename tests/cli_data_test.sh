#!/bin/sh
# Folders of pictures as a person meets them: heed data check, one line that trains, eval, weights to begin with. Real pictures
# where Fashion-MNIST was fetched, drawn ones elsewhere.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"

# ---- pictures ----

# drawn FOLDER N: 12 x 12 bars, upright or lying, at N places and widths
drawn() {
    mkdir -p "$1/upright" "$1/lying"
    awk -v n="$2" -v folder="$1" 'BEGIN {
        for (i = 0; i < n; i++) for (kind = 0; kind < 2; kind++) {
            path = folder "/" (kind ? "lying" : "upright") "/" i ".pgm"
            printf("P2\n12 12\n255\n") > path
            for (y = 0; y < 12; y++) for (x = 0; x < 12; x++) {
                along = kind ? y : x
                bar = along >= i % 9 + 1 && along <= i % 9 + 2
                printf("%d ", bar ? 200 + i % 50 : (i * 7 + x * 13 + y * 29 + kind * 5) % 60) > path
            }
            close(path)
        }
    }' </dev/null
}

# real FOLDER N: N training pictures of Fashion-MNIST, trousers and bags
real() {
    python3 - "$1" "$2" "$HEED_SOURCE_DIR/data/fashion-mnist" <<'PY'
import gzip, os, sys
folder, n, data = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def read(name):
    path = os.path.join(data, name)
    return gzip.open(path + ".gz").read() if os.path.exists(path + ".gz") else open(path, "rb").read()
pixels, labels = read("train-images-idx3-ubyte"), read("train-labels-idx1-ubyte")
names = {1: "trouser", 8: "bag"}
for i in [i for i in range(10000) if labels[8 + i] in names][:n]:
    to = os.path.join(folder, names[labels[8 + i]])
    os.makedirs(to, exist_ok=True)
    with open(os.path.join(to, "%05d.pgm" % i), "wb") as f:
        f.write(b"P5\n28 28\n255\n" + pixels[16 + 784 * i : 800 + 784 * i])
PY
}

if [ -d "$HEED_SOURCE_DIR/data/fashion-mnist" ] && command -v python3 >/dev/null && real my_photos 160; then
    pictures=160
else
    echo "# Fashion-MNIST is not here: drawn pictures"
    drawn my_photos 80
    pictures=160
fi

# ---- heed data check ----

expect 0 "$heed" data check my_photos
says out "a folder of pictures for each class; $pictures pictures, 2 classes"
says out "test part one in ten by digest"
expect 0 "$heed" data check my_photos --json
json_file out
says out '"kind":"folder"'
expect 2 "$heed" data
expect 2 "$heed" data chekc my_photos
says err "heed data knows no \"chekc\""
expect 3 "$heed" data check nowhere
says err "nowhere: the folder cannot be read"
drawn damaged 12
echo nothing >damaged/lying/bad.png
: >damaged/upright/empty.jpg
expect 3 "$heed" data check damaged
says out "lying/bad.png"
says out "and 1 more bad file (--all)"
says err "2 files cannot be read"
expect 3 "$heed" data check damaged --all --json
json_file out
says out '"source":"upright/empty.jpg"'
drawn leaky/train 3
mkdir -p leaky/test/lying && cp leaky/train/lying/1.pgm leaky/test/lying/again.pgm
expect 3 "$heed" data check leaky
says out "1 in another part"
says out "train/lying/1.pgm"
drawn torn 3
mkdir torn/none
expect 3 "$heed" data check torn
says err "class none has no picture to train on"

# ---- one line trains ----

expect 0 "$heed" train --task image-classification --data my_photos --print-config
says out "epochs: 60  # from the data: $pictures pictures"
says out "patience: 15  # from the data: $pictures pictures"
says out 'path: "my_photos"  # --data'
says out "validation: 0.1  # default-image-classification.yaml:"
expect 0 "$heed" train --task image-classification --data my_photos --out run --set train.epochs=4 --set data.crop=0
says out "next        heed eval run"
says run/preprocessor_config.json '"resample": 2'
says run/recipe.yaml "data:"
expect 0 "$heed" eval run
awk '/^accuracy/ { ok = $2 > 0.7; exit } END { exit !ok }' out || fail "it has learned nothing: $(sed -n 2p out)"
expect 0 "$heed" eval run --data "$dir/my_photos"     # the same folder by another name: the same pictures
first=$(sed -n 's/^samples *\([0-9]*\).*/\1/p' out)
expect 0 "$heed" eval run
[ "$first" = "$(sed -n 's/^samples *\([0-9]*\).*/\1/p' out)" ] && [ -n "$first" ] || fail "another name of the folder is another test part"
expect 0 "$heed" train --task image-classification --data my_photos --out tuned --set train.epochs=1 \
    --init run/model.safetensors --freeze 'stem.*' --freeze 'block.0.*'
says err "weights from run/model.safetensors, all of them"
says tuned/recipe.yaml 'freeze: "stem.*,block.0.*"  # --freeze'
expect 0 "$heed" train "$HEED_SOURCE_DIR/recipes/default-image-classification.yaml" --data my_photos --print-config
says out 'path: "my_photos"  # --data'

expect 0 "$heed" train --task image-classification --data my_photos --out unvalidated --set data.validation=0 --set train.epochs=1
says out "not validated"
drawn few 3
expect 0 "$heed" train --task image-classification --data few --out fewest --set train.epochs=1

# ---- what is wrong ----

expect 2 "$heed" train --out x
says err "needs a RECIPE, or --task TASK --data DIR"
expect 2 "$heed" train recipe.yaml --task image-classification --data my_photos --out x
says err "both were given"
expect 2 "$heed" train --task image-classification --out x
says err "--task needs --data DIR"
expect 2 "$heed" train --task image-clasification --data my_photos --out x
says err "did you mean \"image-classification\"?"
expect 3 "$heed" train --task image-classification --data damaged --out x
says err "data.skip_bad=N passes over N such pictures"
expect 0 "$heed" train --task image-classification --data damaged --set data.skip_bad=2 --set train.epochs=1 --out skipped
says err "2 pictures of damaged could not be read and were passed over"
expect 3 "$heed" train --task image-classification --data run --out x
says err "there is no picture in it"
expect 2 "$heed" train --task image-classification --data my_photos --out x --freeze 'nothing.*'
says err "no parameter is called \"nothing.*\""
expect 3 "$heed" train my_photos --out x
says err "heed train --task image-classification --data my_photos"
expect 3 "$heed" train --task image-classification --data my_photos --out x --init run
says err "run/model.safetensors"
expect 3 "$heed" eval my_photos
says err "so my_photos is no run"
expect 2 "$heed" train --task image-classification --data my_photos --out x --batch-size 8
says err "--set train.batch_size=VALUE"
[ -e x ] && fail "a mistake has made the folder of a run"

command_end
