#!/usr/bin/env python3
"""Writes the ctypes binding of the public headers.

    bind.py INCLUDE_DIR >_c.py      include/heed/*.h as Python: constants, enums, structs, prototypes
    bind.py INCLUDE_DIR --count     what a plain search finds in the same files, for
                                    tests/python_layout_test.sh

The headers are C of a simple kind, and this reads no other: typedefs of structs, enums, functions and opaque
types, prototypes marked HEED_API, structs without names and arrays inside structs, constants. Anything else
ends it with a sentence, so that nothing is left out in silence. Order does not matter; a type must be
declared somewhere in the headers.
"""
import glob
import os
import re
import sys

BASIC = {
    "void": None, "bool": "c_bool", "char": "c_char", "int": "c_int", "unsigned": "c_uint", "float": "c_float",
    "double": "c_double", "size_t": "c_size_t", "int64_t": "c_int64", "uint64_t": "c_uint64", "int32_t": "c_int32",
    "uint32_t": "c_uint32", "uint8_t": "c_uint8", "int8_t": "c_int8", "int16_t": "c_int16", "uint16_t": "c_uint16",
}
TOKEN = re.compile(r"\s+|(?P<word>[A-Za-z_]\w*)|(?P<number>-?\d\w*)|(?P<mark>[{}()\[\];,*=|+<>-])")


class Type:
    """What a declaration says: a name, how many stars, whether the innermost is const, sizes of arrays, or a
    function."""

    def __init__(self, name, const=False, stars=0, dims=(), args=None):
        self.name, self.const, self.stars, self.dims, self.args = name, const, stars, list(dims), args


def fail(where, text):
    sys.exit("bind.py: %s: %s" % (where, text))


class Headers:
    def __init__(self, folder):
        self.constants, self.enums, self.structs, self.functions = {}, {}, {}, {}
        self.callbacks, self.opaque = {}, {}
        self.values = {}                         # every enumerator and number, for array sizes
        for path in sorted(glob.glob(os.path.join(folder, "heed", "*.h"))):
            self.where = os.path.basename(path)
            with open(path, encoding="utf-8") as f:
                self.read(f.read())

    # ---- tokens ----

    def read(self, text):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)
        text = re.sub(r"#\s*ifdef\s+__cplusplus\b.*?#\s*endif", "", text, flags=re.S)
        lines = []
        for line in re.sub(r"\\\n", " ", text).split("\n"):
            if not line.lstrip().startswith("#"):
                lines.append(line)
                continue
            m = re.match(r'\s*#\s*define\s+(HEED_\w+)\s+("[^"]*"|-?[\d.]+(?:e-?\d+)?)\s*$', line)
            if m:
                self.constants[m[1]] = m[2]
                if re.fullmatch(r"-?\d+", m[2]):
                    self.values[m[1]] = int(m[2])
        self.tokens, at, text = [], 0, "\n".join(lines)
        while at < len(text):
            m = TOKEN.match(text, at)
            if not m:
                fail(self.where, "cannot read %r" % text[at:at + 40])
            if m.lastgroup:
                self.tokens.append(m[0])
            at = m.end()
        self.at = 0
        while self.at < len(self.tokens):
            self.declaration()

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def take(self, *want):
        token = self.peek()
        if want and token not in want:
            fail(self.where, "expected %s before %r"
                 % (" or ".join(want), " ".join(self.tokens[self.at:self.at + 8])))
        self.at += 1
        return token

    def skip(self, *words):
        while self.peek() in words:
            self.at += 1

    # ---- declarations ----

    def declaration(self):
        if self.peek() == "typedef":
            self.take()
            self.typedef()
        elif self.peek() == "enum" and self.peek(1) == "{":
            self.take()
            self.enum_body(None)
            self.take(";")
        else:
            marked = "HEED_API" in (self.peek(), self.peek(1))
            self.skip("HEED_API", "HEED_MUST_CHECK")
            base = self.base()
            kind, name = self.declarator(base)
            if kind.args is None or not marked:
                fail(self.where, "%s is neither a type nor a function marked HEED_API" % name)
            if self.peek() == "HEED_PRINTF":
                while self.take() != ")":
                    pass
            self.take(";")
            self.functions[name] = kind

    def typedef(self):
        if self.peek() == "enum":
            self.take()
            name = self.take() if self.peek() != "{" else None
            self.enum_body(name)
            self.take(name) if name else fail(self.where, "a typedef of an enum without a name")
        elif self.peek() == "struct" and self.peek(2) == "{":
            self.take()
            name = self.take()
            self.structs[name] = self.struct_body(name)
            self.take(name)
        elif self.peek() == "struct":
            self.take()
            name = self.take()
            self.take(name)
            self.opaque[name] = True
        else:
            kind, name = self.declarator(self.base())
            if kind.args is None:
                fail(self.where, "%s: of typedefs only enums, structs and functions are known" % name)
            self.callbacks[name] = kind
        self.take(";")

    def enum_body(self, name):
        self.take("{")
        value, rows = 0, []
        while self.peek() != "}":
            word = self.take()
            if self.peek() == "=":
                self.take()
                value = self.number()
            rows.append((word, value))
            self.values[word] = value
            value += 1
            if self.peek() == ",":
                self.take()
        self.take("}")
        if name:
            self.enums[name] = rows
        else:
            self.enums.setdefault("", []).extend(rows)

    def number(self):
        """Sums, differences and shifts of numbers and constants: 1, -3, 1u << 2."""
        def one():
            sign = -1 if self.peek() == "-" and self.take() else 1
            token = self.take()
            return sign * (self.values[token] if token in self.values else int(token.rstrip("uUlL"), 0))
        value = one()
        while self.peek() in ("<", "+", "|"):
            mark = self.take()
            if mark == "<":
                self.take("<")
                value <<= one()
            else:
                value = value + one() if mark == "+" else value | one()
        return value

    def struct_body(self, name):
        """[(field, Type, name of its enum or None)]"""
        self.take("{")
        fields = []
        while self.peek() != "}":
            if self.peek() == "struct" and self.peek(1) == "{":
                self.take()
                at = len(fields)
                inner = "%s_" % name
                body = self.struct_body(inner)
                base = None
                while True:
                    kind, field = self.declarator(Type(inner))
                    if base is None:
                        base = "%s_%s" % (name, field)
                        self.structs[base] = body
                        for other in [s for s in self.structs if s.startswith(inner + "_")]:
                            self.structs[base + other[len(inner):]] = self.structs.pop(other)
                        for _, t in [(f, t) for s in self.structs if s.startswith(base) for f,
                                     t in self.structs[s]]:
                            if t.name.startswith(inner + "_"):
                                t.name = base + t.name[len(inner):]
                    kind.name = base
                    fields.append((field, kind))
                    if self.take(",", ";") == ";":
                        break
                if at == len(fields):
                    fail(self.where, "a struct without a name in %s" % name)
                continue
            if self.peek() == "enum" and self.peek(1) == "{":
                self.take()
                self.enum_body(None)
                base = Type("int")
            else:
                base = self.base()
            while True:
                kind, field = self.declarator(base)
                fields.append((field, kind))
                if self.take(",", ";") == ";":
                    break
        self.take("}")
        return fields

    def base(self):
        const = False
        while self.peek() in ("const", "struct", "enum"):
            const = self.take() == "const" or const
        name = self.take()
        if self.peek() == "const":
            self.take()
            const = True
        if not re.match(r"[A-Za-z_]", name):
            fail(self.where, "expected a type before %r" % " ".join(self.tokens[self.at - 1:self.at + 8]))
        return Type(name, const)

    def declarator(self, base):
        stars = 0
        while self.peek() in ("*", "const"):
            stars += self.take() == "*"
        if self.peek() == "(":                   # a pointer to a function: (*name)(arguments)
            self.take("(")
            self.take("*")
            name = self.take()
            self.take(")")
            return Type(base.name, base.const, stars, (), self.arguments()), name
        name = self.take() if re.match(r"[A-Za-z_]", self.peek()) else ""
        if self.peek() == "(":
            return Type(base.name, base.const, stars, (), self.arguments()), name
        dims = []
        while self.peek() == "[":
            self.take("[")
            dims.append(self.number() if self.peek() != "]" else 0)
            self.take("]")
        return Type(base.name, base.const, stars, dims), name

    def arguments(self):
        self.take("(")
        args = []
        if self.peek() == "void" and self.peek(1) == ")":
            self.take()
        while self.peek() != ")":
            kind, name = self.declarator(self.base())
            kind.stars += len(kind.dims[:1])     # an array is passed as a pointer
            if len(kind.dims) > 1:
                fail(self.where, "an argument with two sizes")
            kind.dims = []
            args.append((name, kind))
            if self.peek() == ",":
                self.take()
        self.take(")")
        return args

    # ---- Python ----

    def value_type(self, t, where):
        """The ctypes expression of a type without its stars."""
        if t.name in BASIC:
            return BASIC[t.name]
        if t.name in self.enums:
            return "c_int"
        if t.name in self.structs or t.name in self.opaque or t.name in self.callbacks:
            return t.name
        if t.stars:                              # a struct that only the library knows
            self.opaque[t.name] = True
            return t.name
        fail(where, "type %s is not declared in the headers" % t.name)

    def python(self, t, where):
        if t.name in self.callbacks:             # a function, or a pointer to one
            return t.name
        if t.name == "char" and t.stars and t.const:
            text, stars = "c_char_p", t.stars - 1
        elif t.name == "void" and t.stars:
            text, stars = "c_void_p", t.stars - 1
        else:
            text, stars = self.value_type(t, where), t.stars
        for _ in range(stars):
            text = "POINTER(%s)" % text
        for n in reversed(t.dims):
            text = "%s * %d" % (text, n) if "*" not in text else "(%s) * %d" % (text, n)
        return text

    def function(self, t, where):
        result = self.python(Type(t.name, t.const, t.stars), where)
        return "(%s%s)" % (result, "".join(", " + self.python(a, where) for _, a in t.args) if t.args
                           else ",")

    def order(self):
        """Structs after those they hold by value."""
        done, out = set(), []

        def visit(name):
            if name in done:
                return
            done.add(name)
            for _, t in self.structs[name]:
                if t.name in self.structs and not t.stars and t.args is None:
                    visit(t.name)
            out.append(name)
        for name in self.structs:
            visit(name)
        return out

    def write(self, out):
        lines = []
        functions = ["    %r: %s," % (name, self.function(t, name)) for name,
                     t in sorted(self.functions.items())]
        fields, enums = [], []
        for name in self.order():
            rows, words = [], []
            for field, t in self.structs[name]:
                if t.args is not None:
                    text = "CFUNCTYPE%s" % self.function(t, name).replace(",)", ")")
                else:
                    text = self.python(t, name)
                rows.append("    (%r, %s)," % (field, text))
                if t.name in self.enums and not t.stars:
                    words.append("%r: %r" % (field, t.name))
            fields.append("%s._fields_ = [\n%s\n]" % (name, "\n".join(rows)))
            if words:
                enums.append("%s._enums_ = { %s }" % (name, ", ".join(words)))
        put = lines.append
        put('"""Written by tools/python/bind.py from the public headers: constants, enums, structs, prototypes."""')
        put("from ctypes import (CFUNCTYPE, POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int8,")
        put("                    c_int16, c_int32, c_int64, c_size_t, c_uint, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p)")
        put("")
        for name, value in self.constants.items():
            put("%s = %s" % (name, value))
        for rows in self.enums.values():
            put("")
            for word, value in rows:
                put("%s = %d" % (word, value))
        put("\nENUMS = {")
        for name, rows in self.enums.items():
            if name:
                put("    %r: { %s }," % (name, ", ".join("%r: %d" % row for row in rows)))
        put("}\n")
        for name in list(self.opaque) + list(self.structs):
            put("\nclass %s(Structure):\n    pass\n" % name)
        put("")
        for name, t in self.callbacks.items():
            put("%s = CFUNCTYPE%s" % (name, self.function(t, name).replace(",)", ")")))
        put("\n".join([""] + fields + enums))
        put("\nDEFINES = { %s }" % ", ".join(repr(n) for n in self.constants))
        put("OPAQUE = { %s }" % ", ".join(repr(n) for n in self.opaque))
        put("STRUCTS = { %s }" % ", ".join("%r: %s" % (n, n) for n in self.structs))
        put("\nFUNCTIONS = {                      # name: (result, arguments...)\n%s\n}"
            % "\n".join(functions))
        out.write("\n".join(lines) + "\n")


def count(folder):
    """What there is, found by searching for words and not by the reader above."""
    text = ""
    for path in sorted(glob.glob(os.path.join(folder, "heed", "*.h"))):
        with open(path, encoding="utf-8") as f:
            text += re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
    print("functions %d" % len(re.findall(r"^(?!#).*\bHEED_API\b", text, flags=re.M)))
    print("structs %d" % len(re.findall(r"\bstruct\b\s*\w*\s*\{", text)))
    print("enums %d" % len(re.findall(r"\btypedef\s+enum\b", text)))
    print("enumerators %d" % sum(len(re.findall(r"\bHEED_\w+\s*(?:=[^,}]*)?(?:,|$)", body.strip()))
                                 for body in re.findall(r"\benum\b\s*\w*\s*\{(.*?)\}", text, flags=re.S)))


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] == "--count":
        count(sys.argv[1])
    elif len(sys.argv) == 2:
        Headers(sys.argv[1]).write(sys.stdout)
    else:
        sys.exit(__doc__)
