#!/bin/sh
# The page of an explanation in a browser: it runs without a word on the console, its numbers are those of the file, arrow keys
# move the cursor, every sentence has its Chinese, a narrow window needs no scrolling sideways, and its policy stops a script that
# is not its own.
set -u
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "skipped: no chromium to open pages in (apt install chromium)"; exit 77; }
command -v openssl >/dev/null || { echo "skipped: no openssl to name the probe in the page's policy"; exit 77; }
[ -x "$HEED_BUILD_DIR/tests/explained_files" ] || { echo "skipped: tests/explained_files is not built"; exit 77; }
failures=0 checks=0

fail() {
    echo "FAILED: $1"
    failures=$((failures + 1))
}

# browse FILE#FRAGMENT WIDTH: the document as it is after its scripts, and what the console said
browse() {
    HOME=$dir timeout 120 "$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$dir/profile" \
        --window-size="$2",1200 --virtual-time-budget=4000 --enable-logging=stderr --dump-dom "file://$1" >"$dir/dom" 2>"$dir/log"
    grep -F CONSOLE "$dir/log" >"$dir/console"
}

# probed KIND: a copy of the page with the probe in it, named in the copy's policy
probed() {
    digest=$(openssl dgst -sha256 -binary "$dir/probe.js" | openssl base64)
    sed -e "s|script-src|script-src 'sha256-$digest'|" -e '/^<\/body>/,$d' "$dir/$1.html" >"$dir/$1-probed.html"
    { printf '<script>'; cat "$dir/probe.js"; printf '</script>\n</body>\n</html>\n'; } >>"$dir/$1-probed.html"
}

says() {
    checks=$((checks + 1))
    grep -qF -- "$1" "$dir/dom" || { fail "$2: the page does not say: $1"; grep -o 'PROBE.*' "$dir/dom" | head -n 3; }
}

quiet() {
    checks=$((checks + 1))
    [ ! -s "$dir/console" ] || { fail "$1: the console says:"; cat "$dir/console"; }
}

"$HEED_BUILD_DIR/tests/explained_files" "$dir" || { fail "no pages"; exit 1; }
cat >"$dir/probe.js" <<'END'
"use strict";
(function () {
  const said = [];
  window.addEventListener("error", function (e) { said.push("error " + e.message); });
  function key(e, name) { e.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true })); }
  function readout(e) { return e.parentElement.querySelector(".readout").textContent; }
  window.addEventListener("load", function () {
    setTimeout(function () {
      const queries = document.getElementById("queries"), keys = document.getElementById("keys"), chosen = document.querySelector(".mini[aria-checked=true]");
      if (keys) {
        keys.focus();
        said.push("focus " + (document.activeElement === keys));
        key(keys, "Home"); said.push("home " + readout(keys));
        key(keys, "End"); said.push("end " + readout(keys));
        key(keys, "ArrowLeft"); said.push("left " + readout(keys));
        key(keys, "ArrowUp"); said.push("up " + readout(keys));
      }
      if (queries) {
        queries.focus();
        key(queries, "ArrowDown"); said.push("query " + readout(queries));
        said.push("moved " + readout(document.getElementById("keys")));
      }
      if (chosen) {
        chosen.focus();
        key(chosen, "ArrowRight"); said.push("radio " + document.activeElement.getAttribute("aria-label"));
      }
      const card = document.querySelector(".map .cells");
      card.focus(); key(card, "ArrowRight"); said.push("card " + readout(card));
      said.push("unnamed " + document.querySelectorAll("[role=application]:not([aria-label]), [role=radio]:not([aria-label]), button:empty:not([aria-label])").length);
      said.push("missing " + heed.missing().join(" | "));
      said.push("wider " + (document.documentElement.scrollWidth - document.documentElement.clientWidth));
      ["#answer", ".note b", ".chart text"].forEach(function (at) { said.push("word " + document.querySelector(at).textContent); });
      said.push("theme " + getComputedStyle(document.body).backgroundColor + " " + document.documentElement.lang);
      document.getElementById("theme").click(); document.getElementById("language").click();
      said.push("switched " + getComputedStyle(document.body).backgroundColor + " " + document.documentElement.lang);
      document.body.append(Object.assign(document.createElement("pre"), { id: "probe", textContent: said.map(function (s) { return "PROBE " + s; }).join("\n") }));
    }, 300);
  });
}());
END

probed vit
browse "$dir/vit-probed.html#light,en" 1280
quiet "vit, English"
says "PROBE focus true" vit
says "PROBE home class token: weight" vit
says "PROBE end row 7, column 7: weight" vit
says "PROBE left row 7, column 6: weight" vit
says "PROBE up row 6, column 6: weight" vit
says "PROBE query Query: row 1, column 1" vit
says "PROBE moved row 6, column 6: weight" vit
says "PROBE radio block.0.self_attn, head 0" vit
says "PROBE card row 1, column 2:" vit
says "PROBE unnamed 0" vit
says "PROBE wider 0" vit
says "PROBE theme rgb(251, 250, 247) en" vit
says "PROBE switched rgb(20, 23, 28) zh-CN" vit

browse "$dir/vit-probed.html#dark,zh" 400
quiet "vit, Chinese, narrow"
says "PROBE word 模型的回答：Bag，其实是：Shirt" "vit, Chinese"
says "PROBE word 注意力是混合的权重，不是原因。" "vit, Chinese"
says "PROBE word 删除检验" "vit, Chinese"
says "PROBE theme rgb(20, 23, 28) zh-CN" "vit, Chinese"
says "PROBE wider 0" "vit, narrow"
checks=$((checks + 1))
grep -q "PROBE missing $" "$dir/dom" || { fail "sentences without Chinese:"; grep -o "PROBE missing.*" "$dir/dom"; }

for kind in pool hostile plain large; do
    probed $kind
    browse "$dir/$kind-probed.html#zh" 400
    quiet $kind
    says "PROBE unnamed 0" $kind
    says "PROBE wider 0" $kind
    says "PROBE card " $kind
    checks=$((checks + 1))
    grep -q "PROBE missing $" "$dir/dom" || { fail "$kind: sentences without Chinese:"; grep -o "PROBE missing.*" "$dir/dom"; }
done

# A number of the page is the number of the file.
if command -v python3 >/dev/null; then
    browse "$dir/pool-probed.html#en" 1000
    checks=$((checks + 1))
    python3 - "$dir" <<'END' || fail "a weight of the page is not that of the file"
import json, re, sys
said = re.search(r"PROBE up row (\d+), column (\d+): weight ([\d.e-]+)", open(sys.argv[1] + "/dom", encoding="utf-8").read())
heads = json.load(open(sys.argv[1] + "/pool.json", encoding="utf-8"))["attentions"][0]["weights"][0]
key = (int(said[1]) - 1) * 7 + int(said[2]) - 1
mean = sum(head[0][key] for head in heads) / len(heads)
sys.exit(abs(float(said[3]) - mean) > 0.006 * mean)
END
fi

# A script that is not the page's own does not run, were it to get in.
sed 's|^</main>|<script>document.title = "BROKEN IN"</script></main>|' "$dir/vit.html" >"$dir/broken.html"
browse "$dir/broken.html#en" 800
checks=$((checks + 1))
grep -qF "<title data-i18n" "$dir/dom" && ! grep -q "<title.*>BROKEN IN" "$dir/dom" || fail "a foreign script ran"
checks=$((checks + 1))
grep -qi "Content Security Policy" "$dir/console" || fail "the policy did not speak"

# A picture by itself is a document, too.
browse "$dir/vit.svg" 1000
quiet "vit.svg"
says "No better than random" "vit.svg"

echo "page_test: $checks checks, $failures failed"
[ $failures = 0 ]
