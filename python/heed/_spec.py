"""From a spec as JSON has it to the descriptor heed_attention_spec.

Nothing here knows the fields of the descriptor: they come from the headers, so what the operator learns
Python knows as well. Four habits of the JSON form are rules about kinds of structs and hold for every struct
of that kind:

    a struct with `on`             true turns it on; so does naming a field; a list fills the others
                                   ("window": [4, 0])
    a struct with a `kind`         a word is its kind ("score": "dot"); a kind's word may be a switch where
                                   the first kind is "off" ("t5": {"bidirectional": false} is the other kind)
    a list {v, n} and an array     a list of numbers
    heed_maybe_...                 the number, which counts as given
"""
import ctypes
import difflib

import numpy as np

from . import _c
from ._library import error

MAYBE = (_c.heed_maybe_i64, _c.heed_maybe_f32)
INTEGERS = (ctypes.c_int64, ctypes.c_int, ctypes.c_int32, ctypes.c_uint, ctypes.c_uint32, ctypes.c_uint64)
REALS = (ctypes.c_double, ctypes.c_float)
FULL = ("mask", "bias", "gate", "prev", "dropout_keep")     # four dimensions: missing ones at the left are 1
HANDLES = ("in", "stored")                                   # groups of tensors: no words of a spec
WHOLE = ("lengths", "q_lengths", "q_seg", "k_seg", "globals", "graph_indptr", "graph_indices", "offset", "rng")
TRUTH = ("mask", "block_keep", "dropout_keep")              # all others hold numbers with a point
DESCRIPTOR = dict(_c.heed_attention_spec._fields_)
TENSORS = tuple(name for name, _ in DESCRIPTOR["in"]._fields_)


def kept_as(name, kind, dtype, strict=False):
    """The kind, "f", "i" or "b", in which a tensor given with that kind goes to the operator. Whole numbers stand
    for numbers with a point, but not in a mask, where 0 and 1 mean one thing here and another elsewhere, nor
    for q, k and v where the result takes their dtype (strict)."""
    if name in TRUTH and kind != "b":
        raise error("HEED_ERR_DTYPE", "attention: %s is %s; it must be bool, true where a key is kept%s" % (
            name, dtype, " (numbers that are added to scores are the tensor bias)" if name == "mask" else ""))
    if kind not in "fib" or (strict and kind != "f"):
        raise error("HEED_ERR_DTYPE", "attention: %s is %s; it must be of %s"
                    % (name, dtype, "a floating dtype" if strict else "numbers"))
    return "f" if kind == "i" and name not in WHOLE else kind


def words(enum):
    """{"scaled_dot": 0, ...} of an enum: its names without what they begin with in common."""
    names = list(_c.ENUMS[enum])
    skip = len(enum) + 1                         # HEED_SCORE_ of heed_score_kind, HEED_T5_ of heed_t5_kind
    stem = enum.upper()
    while stem and not all(n.startswith(stem + "_") for n in names):
        stem = stem.rpartition("_")[0]
    skip = len(stem) + 1 if stem else 0
    return {n[skip:].lower(): v for n, v in _c.ENUMS[enum].items()}


def refuse(text):
    raise error("HEED_ERR_SPEC", "attention: " + text)


def not_known(path, name, known):
    near = difflib.get_close_matches(str(name), list(known), 1, 0.5)
    said = "; did you mean %s?" % near[0] if near else ": it is one of " + ", ".join(known)
    return "%s%s is not known%s" % (path, name, said)


def unknown(path, name, known):
    refuse(not_known(path, name, known))


def number(path, value, whole):
    if isinstance(value, (bool, str, bytes)) or not hasattr(value, "__float__" if not whole else "__index__"):
        refuse("%s takes a %snumber, not %r" % (path, "whole " if whole else "", value))
    value = value.__index__() if whole else float(value)
    if whole and not -1 << 63 <= value < 1 << 63:
        refuse("%s is %d, which 64 bits cannot hold" % (path, value))
    return value


def single(path, value):
    """A number of a field that is a float in C: neither infinite in it nor, from something else, 0."""
    held = ctypes.c_float(value).value
    if abs(value) != float("inf") and (abs(held) == float("inf") or (held == 0) != (value == 0)):
        refuse("%s is %g, which f32 cannot hold" % (path, value))
    return value


class Filler:
    """Fills a descriptor; keeps alive what it points to."""

    def __init__(self):
        self.keep = []

    def field(self, struct, name, value, path):
        kind = dict(struct._fields_)[name]
        enum = getattr(struct, "_enums_", {}).get(name)
        if enum:
            known = words(enum)
            if not isinstance(value, str):
                refuse("%s is one of %s, not %r" % (path, ", ".join(known), value))
            if value not in known:
                unknown(path + " ", value, known)
            setattr(struct, name, known[value])
        elif kind is ctypes.c_bool:
            if not isinstance(value, (bool, np.bool_)):
                refuse("%s is true or false, not %r" % (path, value))
            setattr(struct, name, bool(value))
        elif kind in MAYBE:
            given = number(path, value, kind is _c.heed_maybe_i64)
            setattr(struct, name, kind(True, single(path, given) if kind is _c.heed_maybe_f32 else given))
        elif kind in INTEGERS or kind in REALS:
            given = number(path, value, kind in INTEGERS)
            setattr(struct, name, single(path, given) if kind is ctypes.c_float else given)
        elif kind is ctypes.c_char_p:
            setattr(struct, name, str(value).encode())
        elif issubclass(kind, ctypes.Array):
            values = self.numbers(path, value)
            if len(values) != kind._length_:
                refuse("%s takes %d numbers, not %d" % (path, kind._length_, len(values)))
            getattr(struct, name)[:] = values
        elif issubclass(kind, ctypes.Structure):
            self.struct(getattr(struct, name), value, path)
        else:
            refuse("%s cannot be given from Python" % path)

    def numbers(self, path, value):
        if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
            refuse("%s takes a list of whole numbers, not %r" % (path, value))
        return [number(path, v, True) for v in value]

    def struct(self, struct, value, path):
        names = [n for n, _ in struct._fields_]
        enum = getattr(struct, "_enums_", {}).get("kind")
        switches = [w for w, v in words(enum).items() if v] if enum and words(enum).get("off") == 0 else []
        if names == ["v", "n"]:
            values = self.numbers(path, value)
            array = (ctypes.c_int64 * max(1, len(values)))(*values)
            self.keep.append(array)
            struct.v, struct.n = ctypes.cast(array, ctypes.POINTER(ctypes.c_int64)), len(values)
            return
        if isinstance(value, str) and "kind" in names:
            value = {"kind": value}
        if isinstance(value, (bool, np.bool_)) and ("on" in names or switches):
            if not value:
                return
            value = {}
        if isinstance(value, (list, tuple)) and names[:1] == ["on"]:
            if len(value) != len(names) - 1:
                refuse("%s takes %d numbers, not %d" % (path, len(names) - 1, len(value)))
            value = dict(zip(names[1:], value))
        if not isinstance(value, dict):
            refuse("%s takes an object with %s, not %r"
                   % (path, ", ".join(n for n in names if n != "on"), value))
        if "on" in names:
            struct.on = True
        if switches:
            struct.kind = words(enum)[switches[0]]
        for name, v in value.items():
            if name in switches:
                if not isinstance(v, (bool, np.bool_)):
                    refuse("%s.%s is true or false, not %r" % (path, name, v))
                other = [w for w in switches if w != name]
                struct.kind = words(enum)[name if v else other[0]]
            elif name not in names or name == "on" or (path == "" and name in HANDLES):
                unknown(path + "." if path else "", name,
                        [n for n in names if n not in ("on",) + HANDLES] + switches)
            else:
                self.field(struct, name, v, "%s.%s" % (path, name) if path else name)


def leaves(kind=_c.heed_attention_spec, path=()):
    """{"causal": [("mask", "causal")], ...}: every name below the groups, and where it stands."""
    out = {}
    for name, t in kind._fields_:
        if path == () and name in ("in", "probe", "stored"):
            continue
        if path or not (isinstance(t, type) and issubclass(t, ctypes.Structure)) or t in MAYBE:
            out.setdefault(name, []).append(path + (name,))
        if isinstance(t, type) and issubclass(t, ctypes.Structure) and t not in MAYBE:
            for n, places in leaves(t, path + (name,)).items():
                out.setdefault(n, []).extend(places)
    return out


LEAVES = leaves()


def is_tensor(value):
    return hasattr(value, "__array__") and getattr(value, "ndim", 0) > 0 or hasattr(value, "data_ptr")


def put(group, name, value, path):
    """A field that is given by name; the spec may have it as well when it says the same."""
    before = group.get(name, value)
    if before is not value and (is_tensor(before) or is_tensor(value) or before != value):
        refuse("%s is %r in the spec and %r by name: give one" % (path, before, value))
    group[name] = value


def merge(spec, names):
    """Splits keyword arguments into (spec, tensors): window=[4, 0] is {"mask": {"window": [4, 0]}},
    lengths=[3, 5] a tensor."""
    if spec is not None and not isinstance(spec, dict):
        refuse("a spec is an object like {\"mask\": {\"causal\": True}}, not %r" % (spec,))
    tensors = {k: v for k, v in (spec or {}).items() if k in TENSORS and is_tensor(v)}
    spec = {k: dict(v) if isinstance(v, dict) else v for k, v in (spec or {}).items() if k not in tensors}
    for name, value in names.items():
        if value is None:
            continue
        leaf = [p for p in LEAVES.get(name, []) if len(p) == min(map(len, LEAVES[name]))]
        scalar = not is_tensor(value) and not isinstance(value, (list, tuple))
        if name in TENSORS and not (isinstance(value, (dict, str, bool)) or scalar and leaf):
            tensors[name] = value
        elif name in DESCRIPTOR and name not in HANDLES:
            if isinstance(value, dict) and isinstance(spec.get(name), dict):
                for field, x in value.items():
                    put(spec[name], field, x, "%s.%s" % (name, field))
            else:
                put(spec, name, value, name)
        elif len(leaf) == 1:
            at = spec
            for group in leaf[0][:-1]:
                inner = at.get(group)
                inner = {"kind": inner} if isinstance(inner, str) else inner
                at[group] = dict(inner) if isinstance(inner, dict) else {}
                at = at[group]
            put(at, leaf[0][-1], value, ".".join(leaf[0]))
        elif leaf:
            refuse("%s is a field of several groups: write %s"
                   % (name, " or ".join("%s={\"%s\": ...}" % (p[-2], name) for p in leaf)))
        else:
            unknown("", name, [n for n in DESCRIPTOR if n not in HANDLES] + list(TENSORS) + list(LEAVES))
    return spec, tensors


def probes(value):
    """A probe as an object: of "entropy,topk:8,rows:0+5", a list of such, or an object."""
    if value is None or isinstance(value, dict):
        return value
    known = dict(DESCRIPTOR["probe"]._fields_) if "probe" in DESCRIPTOR else {}
    out = {}
    for word in value.split(",") if isinstance(value, str) else value:
        name, _, arg = word.strip().partition(":")
        kind = known.get(name)
        if kind is None:
            unknown("probe.", name, known)
        try:
            if not arg:
                out[name] = True
            elif kind is ctypes.c_int64:
                out[name] = int(arg)
            else:
                out[name] = [int(n) for n in arg.replace("x", "+").split("+")]
        except ValueError:
            refuse("probe.%s takes numbers, not %r" % (name, arg))
    return out


def split(spec, tensors, probe):
    """Takes dropout's seed and step out of a spec: the descriptor has them as the tensor rng. Gives (spec,
    tensors)."""
    spec = {k: v for k, v in (spec or {}).items()}
    if probe is not None:
        spec["probe"] = probes(probe)
    if not spec.get("probe"):
        spec.pop("probe", None)
    combine = spec.get("combine")
    if isinstance(combine, dict) and combine.get("dropout") is not None:
        drop = combine["dropout"]
        drop = dict(drop) if isinstance(drop, dict) else {"p": drop}
        seed, step = drop.pop("seed", 0), drop.pop("step", 0)
        if drop.get("p", 0) and "rng" not in tensors:
            if not (0 <= number("combine.dropout.seed", seed, True) < 1 << 63):
                refuse("combine.dropout.seed must be at least 0 and below 2^63, not %d" % seed)
            if not (0 <= number("combine.dropout.step", step, True) < 1 << 32):
                refuse("combine.dropout.step must be at least 0 and below 2^32, not %d" % step)
            tensors = dict(tensors, rng=np.array([seed, step], np.int64))
        if drop.get("p", 0):
            drop.setdefault("node", 0)
            spec["combine"] = dict(combine, dropout=drop)
        else:
            spec["combine"] = {k: v for k, v in combine.items() if k != "dropout"}
    return spec, tensors


def descriptor(spec):
    """heed_attention_spec of a spec, and what must live as long."""
    filler, out = Filler(), _c.heed_attention_spec()
    filler.struct(out, spec, "")
    return out, filler.keep
