"""Runs the tests of a script: functions marked @test, named as true sentences. `refused(kind, words)` for
what must fail."""
import contextlib
import sys
import traceback

_tests = []


def test(f):
    _tests.append(f)
    return f


@contextlib.contextmanager
def refused(kind, *words):
    try:
        yield
    except kind as e:
        said = str(e)
        missing = [w for w in words if w not in said]
        assert not missing, "\"%s\" does not say %s" % (said, missing)
        return
    raise AssertionError("it was not refused")


def run(only=None):
    bad = 0
    for f in _tests:
        if only and f.__name__ not in only:
            continue
        try:
            f()
            print("ok   " + f.__name__)
        except Exception:
            bad += 1
            print("BAD  " + f.__name__)
            traceback.print_exc(limit=-4)
    print("%d of %d tests passed" % (len(_tests) - bad, len(_tests)))
    sys.exit(1 if bad else 0)
