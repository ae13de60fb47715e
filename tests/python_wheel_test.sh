#!/bin/sh
# The wheel, installed into a fresh environment, works without anything of the source; built twice it has the same bytes.
set -eu
. "$HEED_SOURCE_DIR/tests/support/python.sh"
unset PYTHONPATH
"$python" -c 'import venv, ensurepip' 2>/dev/null || { echo "$python has no venv (apt install python3-venv)"; exit 77; }
dir=$HEED_BUILD_DIR/python_wheel_test
rm -rf "$dir"
mkdir -p "$dir/empty"
wheel=$("$python" "$HEED_SOURCE_DIR/tools/python/wheel.py" "$stage/package" "$dir/dist")
again=$("$python" "$HEED_SOURCE_DIR/tools/python/wheel.py" "$stage/package" "$dir/again")
cmp "$wheel" "$again"
"$python" -m venv "$dir/venv"
cd "$dir/empty"
"$dir/venv/bin/python" -m pip install -q --disable-pip-version-check --no-index --no-deps "$wheel"
"$dir/venv/bin/python" -c 'import numpy' 2>/dev/null || # NumPy comes from where this test has it: no network
    "$python" -c 'import numpy, os; print(os.path.dirname(os.path.dirname(numpy.__file__)))' \
        >"$("$dir/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')/numpy.pth"
"$dir/venv/bin/python" - "$dir/venv" <<'PY'
import sys
import heed
from heed._library import lib
assert heed.__file__.startswith(sys.argv[1]) and lib.path.startswith(sys.argv[1]), (heed.__file__, lib.path)
r = heed.attend([[1], [2], [3]], [[4], [5], [6]], [[7], [8], [9]])
assert abs(float(r.out[0, 0]) - 8.575210) < 1e-5
print("heed %s from %s: out %s" % (heed.version, lib.path, r.out.ravel()))
PY
"$dir/venv/bin/python" -m pip show -q heed
"$dir/venv/bin/python" -m pip uninstall -q -y heed
[ ! -e "$(dirname "$("$dir/venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')")/site-packages/heed" ]
