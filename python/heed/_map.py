"""The map of an attention as HTML: one picture a head, small, side by side; no script, nothing loaded.

A picture is a PNG of one colour whose opacity is the weight over the largest weight of its head, so it reads
on a light page and on a dark one. Every head can be reached by the keyboard, where it grows, and says in
words what it shows.
"""
import base64
import html as escape
import struct
import zlib

import numpy as np

COLOUR = (37, 119, 214)                  # more than 4 : 1 on white and on #111
STYLE = """
.heed-map{font:13px/1.4 system-ui,sans-serif;color:inherit}
.heed-map p{margin:.3em 0}
.heed-heads{display:flex;flex-wrap:wrap;gap:10px;align-items:flex-start}
.heed-map figure{margin:0;padding:4px;border:1px solid rgba(128,128,128,.5);border-radius:4px}
.heed-map figure:focus{outline:3px solid #2577d6;outline-offset:1px}
.heed-map img{display:block;width:132px;height:auto;min-height:4px;image-rendering:pixelated;
  background:rgba(128,128,128,.08)}
.heed-map figure:focus img,.heed-map figure:hover img{width:320px}
.heed-map figcaption{font-size:12px}
.heed-map table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:12px}
.heed-map th,.heed-map td{padding:1px 7px;text-align:right;
  border-bottom:1px solid rgba(128,128,128,.3);color:inherit;background:none}
""".strip()


def png(alpha):
    """A PNG of one colour from opacities u8 [rows, columns]."""
    rows, cols = alpha.shape
    pixels = np.empty((rows, cols, 4), np.uint8)
    pixels[..., :3] = COLOUR
    pixels[..., 3] = alpha
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, cols * 4)], axis=1)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", cols, rows, 8, 6, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)) + chunk(b"IEND", b"")


def block_means(w, a, c):
    """Means of w [H,R,C] over blocks of a x c; blocks at the edges divide by the cells they have."""
    h, r, n = w.shape
    s = np.add.reduceat(np.add.reduceat(w, np.arange(0, r, a), 1), np.arange(0, n, c), 2)
    cells = np.minimum(a, r - np.arange(0, r, a))[:, None] * np.minimum(c, n - np.arange(0, n, c))[None, :]
    return s / cells


def blocks(attended, most):
    """[heads, rows, columns] of the first sequence, no side longer than `most`. Weights that are not there
    are computed, as means over blocks inside the operator where that is possible: no more memory than the map
    has."""
    call = attended._call
    tq, tk = call.arrays["q"].shape[2], call.arrays["k"].shape[2]
    a, c = -(-tq // most) or 1, -(-tk // most) or 1
    w = attended._got.get("weights")
    if w is not None:
        w = w.reshape((-1,) + w.shape[-3:])[0] if w.ndim == 4 else w.reshape((-1,) + w.shape[-2:])
    elif a * c > 1:
        return call.pooled(a, c)
    else:
        w = call.forward(True)["weights"][0]
    if w.size == 0:
        return np.zeros((w.shape[0], 0, 0), np.float32)
    return block_means(w, a, c).astype(np.float32) if a * c > 1 else w


def in_words(head, w, a, c):
    """What a picture shows, for who does not see it."""
    if w.size == 0 or not w.max() > 0:
        return "head %d: no weight anywhere" % head
    i, j = np.unravel_index(int(w.argmax()), w.shape)
    diagonal = ""
    if w.shape[0] == w.shape[1]:
        diagonal = ", %.0f %% on the diagonal" % (100 * np.trace(w) / max(w.sum(), 1e-30))

    def span(n, step):
        return "%d" % n if step == 1 else "%d to %d" % (n * step, n * step + step - 1)
    return "head %d: %d queries by %d keys%s; the strongest is query %s on key %s with %.3g%s" % (
        head, w.shape[0], w.shape[1], "" if a * c == 1 else ", each cell the mean of %d by %d" % (a, c),
        span(i, a), span(j, c), w[i, j], diagonal)


def html(attended, most=64, heads=32):
    call = attended._call
    w = blocks(attended, most)
    tq, tk = call.arrays["q"].shape[2], call.arrays["k"].shape[2]
    a, c = -(-tq // most) or 1, -(-tk // most) or 1
    batch = call.arrays["q"].shape[0]
    out = ["<div class=\"heed-map\"><style>%s</style>" % STYLE]
    said = "Attention of %d queries (rows) on %d keys (columns), %d %s%s." % (
        tq, tk, w.shape[0], "head" if w.shape[0] == 1 else "heads",
        "" if batch == 1 else "; first of %d sequences" % batch)
    if w.shape[0] > heads:
        said += " The first %d heads are shown." % heads
    out.append("<p>%s Full colour is a head's largest weight.</p><div class=\"heed-heads\" role=\"list\">"
               % said)
    for h, m in enumerate(w[:heads]):
        words = escape.escape(in_words(h, m, a, c), quote=True)
        top = float(np.abs(m).max()) if m.size else 0.0
        alpha = np.rint(np.abs(m) * (255 / top)).astype(np.uint8) if top > 0 else np.zeros(m.shape, np.uint8)
        image = base64.b64encode(png(alpha)).decode() if m.size else ""
        out.append("<figure role=\"listitem\" tabindex=\"0\" aria-label=\"%s\"><img alt=\"%s\" title=\"%s\" "
                   "src=\"data:image/png;base64,%s\"><figcaption>head %d, to %.3g</figcaption></figure>"
                   % (words, words, words, image, h, top))
    out.append("</div>")
    out.append(table(w[:heads], a, c))
    out.append("</div>")
    return "".join(out)


def table(w, a, c):
    """The same in numbers: of every head the strongest key of up to 16 queries."""
    if w.size == 0:
        return ""
    rows = []
    for i in range(min(16, w.shape[1])):
        keys = w[:, i].argmax(1)
        rows.append("<tr><th scope=\"row\">%d</th>%s</tr>" % (i * a, "".join(
            "<td>%d: %.3f</td>" % (j * c, w[h, i, j]) for h, j in enumerate(keys))))
    head = "".join("<th scope=\"col\">head %d</th>" % h for h in range(w.shape[0]))
    return ("<details><summary>The strongest key of each query, and its weight</summary>"
            "<table><thead><tr><th scope=\"col\">query</th>"
            "%s</tr></thead><tbody>%s</tbody></table></details>" % (head, "".join(rows)))


def page(attended):
    return ("<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">"
            "<meta name=\"color-scheme\" content=\"light dark\">"
            "<meta name=\"viewport\" content=\"width=device-width\"><title>heed: attention</title>"
            "<body>%s</body></html>\n" % html(attended))
