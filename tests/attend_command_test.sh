#!/bin/sh
# heed attend: the documented example, cases checked, results written, tables, plans, the page, and every way to be refused.
set -u
. "$HEED_SOURCE_DIR/tests/support/command.sh"
cases=$HEED_SOURCE_DIR/tests/golden/attention

# ---- the documented example ----

expect 0 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]'
for number in 8.575210 8.850937 8.947975 0.090031 18.000000; do says out $number; done
expect 0 "$heed" attend --q '[[1],[2],[3]]' --k '[[4],[5],[6]]' --v '[[7],[8],[9]]' --scale 0.57735026919 --show
for number in 8.364953 8.636760 8.801755; do says out $number; done
cp out typed
printf '1\n2\r\n\n 3 ' >q.csv
echo '[4,5,6]' >k.json
expect 0 "$heed" attend --q q.csv --k k.json --v '[7,8,9]' --spec '{"score":{"scale":0.57735026919}}'
cmp -s typed out || fail "the same numbers from files print something else"
expect 0 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]' --score cosine --scale 2 --json
says out '"weights":[[[[0.333333'
json out
expect 0 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]' --spec '{"mask":{"causal":true}}' --json
says out '"scores":[[[[4,null,null],[8,10,null],[12,15,18]]]]'
expect 0 "$heed" attend --q '[]' --k '[1]' --v '[1]' --json
says out '"out":[[[]]]'
expect 0 "$heed" attend --q '[1,2]' --k '[3]' --v '[[1,2]]' --spec '{"normaliser":{"kind":"linear"}}'
grep -q scores out && fail "linear attention has no scores"
if have_python && "$python" -c 'import numpy' 2>/dev/null; then
    "$python" -c 'import numpy as n; n.save("q.npy", n.array([1, 2, 3])); n.save("v.npy", n.array([[7.0], [8], [9]], dtype="f4")[None, None]); n.save("f.npy", n.asfortranarray([[1.0, 2], [3, 4]]))'
    expect 0 "$heed" attend --q q.npy --k k.json --v v.npy --scale 0.57735026919
    cmp -s typed out || fail "the same numbers from .npy files print something else"
    expect 3 "$heed" attend --q f.npy --k k.json --v v.npy
    says err "the array is in Fortran's order"
fi

# ---- files ----

expect 0 "$heed" attend "$cases/probe-all.safetensors" --check
[ "$(grep -c ' ok$' out)" = 13 ] || fail "not a line a tensor"
expect 0 "$heed" attend "$cases/probe-all.safetensors" --check --json --threads 2
json out
expect 0 "$heed" attend "$cases/refuse-unused_tensor.safetensors" --check
says out "refused, as expected"
expect 3 "$heed" attend "$cases/refuse-unused_tensor.safetensors" --out no.safetensors
[ ! -e no.safetensors ] || fail "a refused spec wrote a file"
expect 1 "$heed" attend "$cases/mask-causal.safetensors" --check --spec '{}'
says out BAD
expect 0 "$heed" attend "$cases/norm-topk_ties.safetensors" --weights --grad --probe entropy,topk:2 --out r.safetensors
expect 3 "$heed" attend r.safetensors --show --spec '{}'
says err "the tensor q is missing"
expect 2 "$heed" attend "$cases/norm-topk_ties.safetensors" --out r.safetensors
says err --force
expect 0 "$heed" attend "$cases/norm-topk_ties.safetensors" --out r.safetensors --force --threads 7
cp r.safetensors one.safetensors
expect 0 "$heed" attend "$cases/norm-topk_ties.safetensors" --out r.safetensors --force --threads 1
cmp -s one.safetensors r.safetensors || fail "threads changed the bytes"
printf '{"probe":{"entropy":true}}' >spec.json
expect 0 "$heed" attend "$cases/seed-example.safetensors" --spec spec.json --probe none --out p.safetensors
grep -q probe_entropy p.safetensors && fail "--probe none left a probe"
expect 0 "$heed" attend "$cases/seed-example.safetensors" --spec spec.json --out p.safetensors --force
grep -q probe_entropy p.safetensors || fail "the spec's probe is not in the file"

# ---- kernels and plans ----

expect 0 "$heed" attend "$cases/mask-window.safetensors" --explain-plan --grad
says out "tiles             4 kept of 4"
expect 0 "$heed" attend "$cases/combine-talking.safetensors" --explain-plan --json --kernel reference
says out '"kernel":"reference"'
json out
expect 0 "$heed" attend "$cases/seed-example.safetensors" --check --kernel reference --isa portable
expect 0 "$heed" attend "$cases/seed-example.safetensors" --check --kernel streaming
expect 4 "$heed" attend --q '[1]' --k '[1]' --v '[1]' --kernel streaming
says err "--kernel streaming does not serve this attention"
says err "a dtype other than f32"

# ---- refused ----

refused() {
    words=$1
    shift
    expect 3 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]' "$@"
    says err "$words"
}
refused "no field mask.casual; did you mean mask.causal?" --spec '{"mask":{"casual":true}}'
refused "no field causal; did you mean mask.causal?" --spec '{"causal":true}'
refused 'score.kind has no value "cosin": did you mean cosine; it is' --spec '{"score":{"kind":"cosin"}}'
refused "mask.causal must be true or false" --spec '{"mask":{"causal":1}}'
refused "normaliser.k must be a whole number" --spec '{"normaliser":{"kind":"topk","k":2.5}}'
refused "mask.stride is 0; it must be at least 1" --spec '{"mask":{"stride":0}}'
refused "mask.window must be a list of two whole numbers" --spec '{"mask":{"window":[1]}}'
refused "combine.dropout.step is 4294967296" --spec '{"combine":{"dropout":{"p":0.1,"step":4294967296}}}'
refused "score.scale is 1e+300, which f32 cannot hold" --spec '{"score":{"scale":1e300}}'
refused "this is not JSON: the text ends too early" --spec '{'
refused "something stands behind its end" --spec '{}x'
refused "a key stands twice" --spec '{"score":{"kind":"dot","kind":"cosine"}}'
refused "a JSON object in braces is expected" --spec '[]'
refused "lengths is a tensor and no field" --spec '{"lengths":[2]}'
refused "turns pairs of columns, and q and k have widths 1 and 1" --spec '{"position":{"rope":{}}}'
refused "mask.window must be a list of two whole numbers" --spec '{"mask":{"window":[1.5,0]}}'
refused "position.xl needs the tensor xl_r" --spec '{"position":{"xl":{}}}'
refused "probe.rows names a row that q does not have" --probe rows:3
wrong() {
    words=$1
    shift
    expect 2 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]' "$@"
    says err "$words"
}
wrong "entropy stands twice" --probe entropy,lse,entropy
wrong "none stands alone" --probe none,entropy
wrong "none stands alone" --probe entropy,none
wrong "ask with --weights" --probe weights
wrong "topk needs to know how many: topk:8" --probe topk
refused "no field probe.entropi; did you mean probe.entropy?" --probe entropi
refused "normaliser.k needs normaliser.kind topk" --spec '{"normaliser":{"k":2}}'
refused "lse is not defined" --spec '{"normaliser":{"kind":"sigmoid"}}' --probe lse
expect 2 "$heed" attend --q '[1]' --k '[1]' --v '[1]' --probe 'topk:x'
expect 2 "$heed" attend --q '[1]' --k '[1]'
expect 2 "$heed" attend "$cases/seed-example.safetensors"
says err "--out FILE"
expect 2 "$heed" attend "$cases/seed-example.safetensors" --q '[1]' --show
expect 3 "$heed" attend nothing.safetensors --check
typed() {
    words=$1
    shift
    expect 3 "$heed" attend --k '[4]' --v '[7]' --q "$@"
    says err "$words"
}
typed "is no matrix" '[[1,2],[3]]'
typed "beside something that is none" '[[1],2]'
typed "no number" '["a"]'
typed "in brackets" '[1,[2]]'
typed "more than four levels" '[[[[[1]]]]]'
typed "this is not JSON" '[1,'
typed "this number is too large" '[1e999]'
expect 2 "$heed" attend --q hello --k '[1]' --v '[1]'
says err "write numbers"
expect 2 "$heed" attend --q 3 --k '[1]' --v '[1]'
says err "write numbers"
printf '1,2\n3\n' >ragged.csv
typed "ragged.csv:2: this row has 1 numbers, the first has 2" ragged.csv
printf 'a,b\n1,2\n' >head.csv
typed 'head.csv:1:1: "a" is no number' head.csv
: >empty.csv
typed "there is no row" empty.csv
printf '\223NUMPY\001\000\166\000{}' >bad.npy
typed "bad.npy" bad.npy

# ---- eighty columns ----

expect 0 "$heed" attend "$cases/score-wide.safetensors" --show
[ "$(awk 'length($0) > 80' out | wc -l)" -eq 0 ] || fail "a table of 64 numbers a row is wider than 80 columns"
says out "k71"

# ---- the page ----

expect 0 "$heed" attend --q '[1,2,3]' --k '[4,5,6]' --v '[7,8,9]' --spec '{"mask":{"causal":true}}' --html page.html
says page.html '>8.947975<'
says page.html '<section class="stage" data-step="13">'
says page.html '<td class="none"></td>'
says page.html '<code class="formula">q . k</code>'
expect 0 "$heed" attend --q '[1e30,-1e30]' --k '[1]' --v '[1]' --spec '{"score":{"kind":"neg_distance"}}' --html far.html
says far.html '<td class="minus" style="--heat:1.000">-1e+30</td>'
says far.html '<code class="formula">-sqrt(|q - k|^2 + 1e-12)</code>'
expect 2 "$heed" attend --q '[1]' --k '[1]' --v '[1]' --html page.html
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -n "$browser" ] && command -v openssl >/dev/null; then
    cat >probe.js <<'END'
addEventListener("load", function () { setTimeout(function () {
  const said = [], shown = function () { return Array.from(document.querySelectorAll(".stage.shown")).map(function (s) { return s.dataset.step; }).join(); };
  const key = function (name) { dispatchEvent(new KeyboardEvent("keydown", { key: name })); said.push(name + " " + shown()); };
  said.push("first " + shown()); key("ArrowRight"); key("End"); key("ArrowRight"); key("ArrowLeft"); key("Home");
  said.push("missing " + heed.missing().join(" | "), "heading " + document.querySelector("h2").textContent);
  said.push("wider " + (document.documentElement.scrollWidth - document.documentElement.clientWidth));
  document.body.append(Object.assign(document.createElement("pre"), { textContent: said.map(function (s) { return "PROBE " + s; }).join("\n") }));
}, 200); });
END
    digest=$(openssl dgst -sha256 -binary probe.js | openssl base64)
    sed -e "s|script-src|script-src 'sha256-$digest'|" -e '/^<\/body>/,$d' page.html >probed.html
    { printf '<script>'; cat probe.js; printf '</script>\n</body>\n</html>\n'; } >>probed.html
    HOME=$dir timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$dir/profile" \
        --window-size=420,900 --virtual-time-budget=3000 --enable-logging=stderr --dump-dom "file://$dir/probed.html#zh,dark" >dom 2>log
    for words in "first 1" "ArrowRight 2" "End 13" "ArrowLeft 12" "Home 1" "heading 第 1 步：原始得分" "wider 0"; do says dom "PROBE $words"; done
    grep -q "PROBE missing $" dom || { fail "sentences without Chinese:"; grep -o "PROBE missing.*" dom; }
    grep -F CONSOLE log && fail "the console says something"
fi
command_end
