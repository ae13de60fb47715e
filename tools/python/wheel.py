#!/usr/bin/env python3
"""Writes the wheel from what tools/python/stage laid out: a wheel is a zip with three more files, so nothing
but Python is needed. The same files give the same bytes.

    wheel.py PACKAGE_DIR DIST_DIR       prints the wheel's path
"""
import base64
import hashlib
import os
import re
import sys
import sysconfig
import zipfile

METADATA = """\
Metadata-Version: 2.1
Name: heed
Version: {version}
Summary: Neural networks with attention: train, run, and see where they look
License: {licence}
Requires-Python: >=3.9
Requires-Dist: numpy
Provides-Extra: torch
Requires-Dist: torch ; extra == "torch"
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence

A Python package over libheed, which is C and needs no Python. docs/python.md of the source is the manual.
"""
WHEEL = "Wheel-Version: 1.0\nGenerator: heed tools/python/wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n"


def main(package, dist):
    with open(os.path.join(package, "heed", "_c.py"), encoding="utf-8") as f:
        version = re.search(r'^HEED_VERSION = "([^"]+)"', f.read(), re.M)[1]
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    with open(os.path.join(source, "LICENSE"), encoding="utf-8") as f:
        licence = f.read()
    tag = "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())
    info = "heed-%s.dist-info" % version
    files = {"heed/" + n: open(os.path.join(package, "heed", n), "rb").read()
             for n in sorted(os.listdir(os.path.join(package, "heed"))) if not n.startswith("__pycache__")}
    files[info + "/METADATA"] = METADATA.format(version=version, licence=licence.split("\n")[0]).encode()
    files[info + "/WHEEL"] = WHEEL.format(tag=tag).encode()
    files[info + "/licenses/LICENSE"] = licence.encode()
    record = ["%s,sha256=%s,%d"
              % (n, base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode(), len(data))
              for n, data in files.items()]
    files[info + "/RECORD"] = ("\n".join(record + [info + "/RECORD,,"]) + "\n").encode()
    os.makedirs(dist, exist_ok=True)
    path = os.path.join(dist, "heed-%s-%s.whl" % (version, tag))
    with zipfile.ZipFile(path + ".new", "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, data)
    os.replace(path + ".new", path)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:])
