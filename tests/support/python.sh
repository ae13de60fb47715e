# For tests/python_*_test.sh: sets $python and PYTHONPATH, or ends with 77 and the reason. Modules named in $needs must be there
# besides numpy. HEED_PYTHON names another Python; else .venv of the source (make python-venv), else python3.
python=${HEED_PYTHON:-$HEED_SOURCE_DIR/.venv/bin/python}
[ -x "$python" ] || python=$(command -v "${HEED_PYTHON:-python3}") || { echo "there is no python3"; exit 77; }
for module in numpy ${needs:-}; do
    "$python" -c "import $module" 2>/dev/null || {
        echo "$python has no $module (make python-venv makes a Python that has it, HEED_PYTHON names one)"
        exit 77
    }
done
grep -q '^HEED_SANITIZE:STRING=$' "$HEED_BUILD_DIR/CMakeCache.txt" || { echo "a sanitized library needs a sanitized Python"; exit 77; }
grep -q '^HEED_CORE_ONLY:BOOL=ON' "$HEED_BUILD_DIR/CMakeCache.txt" && { echo "the core alone has no Python package"; exit 77; }
stage=$HEED_BUILD_DIR/python
HEED_PYTHON=$python "$HEED_SOURCE_DIR/tools/python/stage" "$stage"
PYTHONPATH=$stage/package
export PYTHONPATH PYTHONDONTWRITEBYTECODE=1
