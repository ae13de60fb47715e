"""Compares the ctypes binding with the C compiler.

    layout.py write                      a C program that prints sizes, offsets, enumerators
    layout.py compare LAYOUT COUNT       what it printed, and what a plain search counted in the headers

Fields of every struct are named by the binding, so one that the binding forgot shows as a size that differs,
and a struct, enum or function that it forgot as a count that differs.
"""
import ctypes
import sys

from heed import _c

def nested():
    """Structs without a name in C: {name in the binding: expression of C that has this type}."""
    out = {}

    def visit(kind, place):
        for field, t in kind._fields_:
            if isinstance(t, type) and issubclass(t, ctypes.Structure) and t.__name__ == "%s_%s" % (kind.__name__, field):
                out[t.__name__] = "%s.%s" % (place, field)
                visit(t, out[t.__name__])
    for name, kind in _c.STRUCTS.items():
        if name not in out:
            visit(kind, "(*(%s *)0)" % name)
    return out


def write():
    put = print
    put("#include <heed/heed.h>\n#include <stddef.h>\n#include <stdio.h>\n")
    put("int main(void)\n{")
    inner = nested()
    for name, kind in _c.STRUCTS.items():
        whole = inner.get(name, "(*(%s *)0)" % name)
        put('    printf("struct %s %%zu %%zu\\n", sizeof %s, (size_t)%d);'
            % (name, whole, len(kind._fields_)))
        for field, _ in kind._fields_:
            put('    printf("field %s %s %%zu %%zu\\n", (size_t)((char *)&%s.%s - (char *)&%s), sizeof %s.%s);'
                % (name, field, whole, field, whole, whole, field))
    for enum, rows in _c.ENUMS.items():
        put('    printf("size %s %%zu\\n", sizeof(%s));' % (enum, enum))
        for word in rows:
            put('    printf("enum %s %s %%d\\n", (int)%s);' % (enum, word, word))
    for name in dir(_c):
        value = getattr(_c, name)
        if name.startswith("HEED_") and isinstance(value, int):
            put('    printf("value %s %%lld\\n", (long long)%s);' % (name, name))
        elif name.startswith("HEED_") and isinstance(value, float):
            put('    printf("value %s %%.17g\\n", (double)%s);' % (name, name))
        elif name.startswith("HEED_") and isinstance(value, str):
            put('    printf("value %s %%s\\n", %s);' % (name, name))
    put("    static void (*const functions[])(void) = {")     # each must be declared, and found by the linker
    for name in _c.FUNCTIONS:
        put("        (void (*)(void))%s," % name)
    put('    };\n    printf("functions %zu\\n", sizeof functions / sizeof *functions);')
    put("    return 0;\n}")


def ours():
    """The lines that the C program prints, by the binding."""
    for name, kind in _c.STRUCTS.items():
        yield "struct %s %d %d" % (name, ctypes.sizeof(kind), len(kind._fields_))
        for field, _ in kind._fields_:
            d = getattr(kind, field)
            yield "field %s %s %d %d" % (name, field, d.offset, d.size)
    for enum, rows in _c.ENUMS.items():
        yield "size %s %d" % (enum, ctypes.sizeof(ctypes.c_int))
        for word, value in rows.items():
            yield "enum %s %s %d" % (enum, word, value)
    for name in dir(_c):
        value = getattr(_c, name)
        if name.startswith("HEED_"):
            yield "value %s %s" % (name, "%.17g" % value if isinstance(value, float) else value)
    yield "functions %d" % len(_c.FUNCTIONS)


def compare(layout, count):
    with open(layout) as f:
        theirs = f.read().splitlines()
    mine = list(ours())
    bad = ["C says %-60s Python %s" % row for row in zip(theirs, mine) if row[0] != row[1]]
    if len(theirs) != len(mine):
        bad.append("C printed %d lines, the binding has %d" % (len(theirs), len(mine)))
    found = {"functions": len(_c.FUNCTIONS), "structs": len(_c.STRUCTS), "enums": len(_c.ENUMS),
             "enumerators": sum(1 for n in dir(_c) if n.startswith("HEED_") and n not in _c.DEFINES)}
    with open(count) as f:
        for line in f:
            what, n = line.split()
            if int(n) != found[what]:
                bad.append("the headers have %s %s, the binding %d" % (n, what, found[what]))
    print("\n".join(bad[:40] or ["%d lines agree: %s"
                                 % (len(mine), ", ".join("%d %s" % (n, w) for w, n in found.items()))]))
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write()
    else:
        sys.exit(compare(*sys.argv[2:]))
