#!/usr/bin/env python3
"""Writes tests/golden/image: pictures, and what Pillow makes of them. Needs Pillow and NumPy.

    decode.tsv   file, channels, height, width        decode.bin   for each row the bytes as is, grey, RGB: [C,H,W]
    resize.tsv   file, height, width, filter, fit, fill            resize.bin   for each row the bytes
    README.md    versions

tools/corpus/image_golden.py
"""
import os
import shutil
import struct
import zlib

import numpy as np
import PIL
from PIL import Image, features

folder = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "golden", "image")
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
rng = np.random.default_rng(20)


def path(name):
    return os.path.join(folder, name)


def picture(h, w, c):
    """Waves and noise: smooth enough for JPEG, with every bit in use."""
    y, x = np.mgrid[0:h, 0:w]
    planes = [127 + 90 * np.sin(x / (3 + k) + y / (5 - k)) + rng.normal(0, 12, (h, w)) for k in range(c)]
    return np.stack(planes, -1).clip(0, 255).astype(np.uint8)


# ---- PNG of the kinds that Pillow does not write ----

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(rows, depth):
    """[H, samples] -> filtered (type 0) scanlines."""
    out = b""
    for r in rows:
        if depth == 16:
            out += b"\0" + r.astype(">u2").tobytes()
        elif depth == 8:
            out += b"\0" + r.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), "0%db" % depth) for v in r)
            bits += "0" * (-len(bits) % 8)
            out += b"\0" + bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
    return out


ADAM7 = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]


def png(name, samples, depth, kind, interlaced=False, before=b""):
    """samples [H,W,C]; kind: the colour type of PNG."""
    h, w, c = samples.shape
    if interlaced:
        raw = b""
        for y0, x0, dy, dx in ADAM7:
            part = samples[y0::dy, x0::dx]
            if part.size:
                raw += packed(part.reshape(part.shape[0], -1), depth)
    else:
        raw = packed(samples.reshape(h, -1), depth)
    with open(path(name), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, interlaced)) +
                before + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b""))


H, W = 7, 13
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
palette = chunk(b"PLTE", rng.integers(0, 256, 768, dtype=np.uint8).tobytes())
wide = {}                                                # 16-bit pictures: Pillow narrows them its own way
for d in (1, 2, 4, 8):
    v = rng.integers(0, 1 << d, (H, W, 1))
    png("grey%d.png" % d, v, d, GREY)
    png("grey%d_interlaced.png" % d, v, d, GREY, True)
    plte = chunk(b"PLTE", rng.integers(0, 256, 3 << d, dtype=np.uint8).tobytes())
    png("palette%d.png" % d, v, d, PALETTE, before=plte)
    png("palette%d_interlaced.png" % d, v, d, PALETTE, True, before=plte)
    png("palette%d_transparent.png" % d, v, d, PALETTE, before=plte + chunk(b"tRNS", bytes(range(0, 1 << min(d, 4)))))
for d in (8, 16):
    for kind, c, word in ((GREY, 1, "grey"), (RGB, 3, "rgb"), (GREY_ALPHA, 2, "grey_alpha"), (RGBA, 4, "rgba")):
        if d == 8 and kind == GREY:
            continue
        v = rng.integers(0, 1 << d, (H, W, c))
        for lace in (False, True):
            name = "%s%d%s.png" % (word, d, "_interlaced" if lace else "")
            png(name, v, d, kind, lace)
            if d == 16:
                wide[name] = (((v * 255 + 32895) >> 16)[..., :1 if c < 3 else 3]).astype(np.uint8)
png("grey8_transparent.png", rng.integers(0, 256, (H, W, 1)), 8, GREY, before=chunk(b"tRNS", b"\0\x80"))
png("rgb8_transparent.png", rng.integers(0, 256, (H, W, 3)), 8, RGB, before=chunk(b"tRNS", b"\0\x80\0\x01\0\x02"))
png("rgb8_gamma.png", picture(H, W, 3), 8, RGB, before=chunk(b"gAMA", struct.pack(">I", 45455)))
png("one_pixel.png", rng.integers(0, 256, (1, 1, 3)), 8, RGB)
png("one_column_interlaced.png", rng.integers(0, 256, (9, 1, 1)), 8, GREY, True)
Image.fromarray(picture(33, 31, 3)).save(path("filters.png"))                       # every filter type
Image.fromarray(picture(33, 31, 1)[..., 0]).save(path("filters_grey.png"))

# ---- JPEG ----

rgb, grey = Image.fromarray(picture(35, 45, 3)), Image.fromarray(picture(35, 45, 1)[..., 0])
for progressive in (False, True):
    word = "_progressive" if progressive else ""
    grey.save(path("grey%s.jpg" % word), quality=85, progressive=progressive)
    for s, name in enumerate(("444", "422", "420")):
        rgb.save(path("%s%s.jpg" % (name, word)), quality=85, subsampling=s, progressive=progressive)
rgb.save(path("best.jpg"), quality=100, subsampling=0)
rgb.save(path("poor.jpg"), quality=5)
rgb.save(path("restarts.jpg"), quality=85, restart_marker_blocks=2, optimize=True)
rgb.save(path("rgb.jpg"), quality=85, keep_rgb=True)
turned = Image.Exif()
turned[0x0112] = 6                                       # "turn me": nobody does
rgb.save(path("exif_turned.jpg"), quality=85, exif=turned)
Image.fromarray(picture(1, 1, 3)).save(path("one_pixel.jpg"))

# ---- PGM, PPM ----

v = picture(H, W, 3)


def pnm(name, magic, most, samples, text=False, head=b"%s\n%d %d\n%d\n"):
    h, w = samples.shape[:2]
    body = (" ".join(str(x) for x in samples.reshape(-1)) + "\n").encode() if text else \
        samples.astype(">u2" if most > 255 else np.uint8).tobytes()
    with open(path(name), "wb") as f:
        f.write(head % (magic, w, h, most) + body)


pnm("binary.ppm", b"P6", 255, v)
pnm("binary.pgm", b"P5", 255, v[..., :1])
pnm("text.ppm", b"P3", 255, v, True)
pnm("text.pgm", b"P2", 255, v[..., :1], True)
pnm("text_16.pgm", b"P2", 255, v[..., :1], True, b"%s # a\n# b\r%d\t%d\n\n%d #c\n")
pnm("comments.ppm", b"P6", 255, v, head=b"%s #a\n%d # b\r %d\x0b\n# c\n\n%d\n")
for most in (1, 6, 100, 254):
    pnm("most_%d.ppm" % most, b"P6", most, v.astype(int) % (most + 1))
    pnm("most_%d.pgm" % most, b"P2", most, v[..., :1].astype(int) % (most + 1), True)
for most in (256, 1000, 65535):
    pnm("most_%d.ppm" % most, b"P6", most, rng.integers(0, most + 1, (H, W, 3)))
    n = "most_%d.pgm" % most
    s = rng.integers(0, most + 1, (H, W, 1))
    pnm(n, b"P5", most, s)
    wide[n] = np.array([[[round(int(x) / most * 255)] for x in r[:, 0]] for r in s], np.uint8)

# ---- what they are ----


def chw(image):
    a = np.asarray(image)
    return np.ascontiguousarray(a[None] if a.ndim == 2 else a.transpose(2, 0, 1))


def opened(name):
    if name in wide:
        a = wide[name]
        return Image.fromarray(a[..., 0] if a.shape[2] == 1 else a)
    image = Image.open(path(name))
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")


names = sorted(n for n in os.listdir(folder))
with open(path("decode.bin"), "wb") as f, open(path("decode.tsv"), "w") as table:
    for n in names:
        image = opened(n)
        a = chw(image)
        table.write("%s\t%d\t%d\t%d\n" % ((n,) + a.shape))
        for b in (a, chw(image.convert("L")), chw(image.convert("RGB"))):
            f.write(b.tobytes())

# ---- resized ----

FILTERS = [("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC), ("nearest", Image.NEAREST)]


def ratio(a, b, c):
    return max(1, (2 * a * b + c) // (2 * c))


def resized(image, h, w, how, fit, fill):
    sw, sh = w, h
    W0, H0 = image.size
    if fit != "stretch":
        if (w * H0 <= h * W0) == (fit == "pad"):
            sh = ratio(H0, w, W0)
        else:
            sw = ratio(W0, h, H0)
    r = image.resize((sw, sh), how)
    if fit == "crop":
        x, y = (sw - w) // 2, (sh - h) // 2
        return r.crop((x, y, x + w, y + h))
    if fit == "pad":
        p = Image.new(r.mode, (w, h), fill if r.mode == "L" else (fill,) * 3)
        p.paste(r, ((w - sw) // 2, (h - sh) // 2))
        return p
    return r


SOURCES = [("checks.pgm", np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((4, 4))).astype(np.uint8)[..., None]),
           ("tall.pgm", picture(400, 3, 1)), ("flat.ppm", picture(2, 300, 3)), ("noise.ppm", rng.integers(0, 256, (41, 67, 3)))]
for n, a in SOURCES:
    pnm(n, b"P6" if a.shape[2] == 3 else b"P5", 255, a)
STRETCHES = {"one_pixel.png": [(1, 1), (1, 5), (7, 3)], "checks.pgm": [(32, 32), (31, 33), (16, 16), (5, 64), (1, 1)],
             "binary.ppm": [(7, 13), (14, 26), (40, 3), (1, 60), (3, 3), (64, 2)], "tall.pgm": [(1, 1), (40, 30), (399, 2), (2, 500)],
             "flat.ppm": [(2, 1), (50, 7), (1, 299), (9, 600)], "noise.ppm": [(41, 66), (40, 67), (20, 20), (7, 300), (100, 100), (8, 64)]}
FITS = {"noise.ppm": [(20, 20), (41, 67), (100, 30), (13, 90), (1, 1)], "binary.ppm": [(28, 28), (3, 5)], "checks.pgm": [(17, 40), (40, 17)],
        "tall.pgm": [(50, 50)], "flat.ppm": [(30, 40)]}
cases = [(n, h, w, f, "stretch", 0) for n in STRETCHES for h, w in STRETCHES[n] for f in range(3)]
cases += [(n, h, w, f, fit, fill) for n in FITS for h, w in FITS[n] for f in range(3) for fit, fill in (("crop", 0), ("pad", 0), ("pad", 200))]
with open(path("resize.bin"), "wb") as f, open(path("resize.tsv"), "w") as table:
    for n, h, w, k, fit, fill in cases:
        table.write("%s\t%d\t%d\t%s\t%s\t%d\n" % (n, h, w, FILTERS[k][0], fit, fill))
        f.write(chw(resized(opened(n), h, w, FILTERS[k][1], fit, fill)).tobytes())

with open(path("README.md"), "w") as f:
    f.write("""# Pictures, and what Pillow makes of them

Written by `tools/corpus/image_golden.py` with Pillow %s (libjpeg-turbo %s, zlib %s).

- `decode.tsv`: file, channels, height, width; `decode.bin`: for each row the bytes as they are, grey, and RGB, each `[C,H,W]`.
- `resize.tsv`: file, height, width, filter, fit, fill; `resize.bin`: for each row the bytes `[C,height,width]`.

Two numbers are not Pillow's, whose rule depends on its version: 16-bit PNG samples are `(v * 255 + 32895) >> 16`, 16-bit grey PGM
samples `round(v / largest * 255)`, which is what Pillow does with colour.
""" % (PIL.__version__, features.version("libjpeg_turbo"), features.version("zlib")))
print(len(names), "pictures,", len(cases), "resized,", sum(os.path.getsize(path(n)) for n in os.listdir(folder)), "bytes")
