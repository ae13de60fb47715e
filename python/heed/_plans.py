"""Plans of attention, kept by shapes and spec: forward and gradient.

All plans of a context share one session, and so one block of memory, as large as the largest of them needs.
Inputs and outputs are addresses of the caller's arrays: nothing is copied.
"""
import collections
import ctypes
import weakref
from ctypes import byref

from . import _c, _spec
from ._library import lib, made
from ._tensors import shape_of, type_of

KEPT = 64                                # plans of a context; the least recently used one goes
UPSTREAM = ("out", "weights", "lse")     # what gradients may come from
STORED = ("out", "lse", "lse_rest")      # all that a gradient needs of a forward run, where there is a rest
COSTLY = ("weights", "lse_rest")         # results only for who asks
ATTENDED = [n for n, _ in _c.heed_attended._fields_]


class Plan:
    """One plan. `inputs` and `outputs` are its names in order, `types` those of the outputs as (dtype,
    shape)."""

    def __init__(self, shared, build):
        ctx = shared.context
        builder = made(_c.heed_builder, lib.heed_builder_new, lib.heed_builder_free, ctx.pointer)
        try:
            build(builder.pointer)
            graph = made(_c.heed_graph, lib.heed_builder_finish, lib.heed_graph_free, builder.pointer)
        finally:
            builder.close()
        self.handle = made(_c.heed_plan, lib.heed_plan_new, lib.heed_plan_free, ctx.pointer, graph.pointer,
                           None, keeps=(ctx.handle,))
        graph.close()
        p = self.handle.pointer
        self.inputs = [lib.heed_plan_input_name(p, i).decode() for i in range(lib.heed_plan_inputs(p))]
        self.outputs = [lib.heed_plan_output_name(p, i).decode() for i in range(lib.heed_plan_outputs(p))]
        self.took = (_c.heed_tensor * max(1, len(self.inputs)))()
        self.gave = (_c.heed_tensor * max(1, len(self.outputs)))()
        for i in range(len(self.inputs)):
            self.took[i].type = lib.heed_plan_input_type(p, i)
        for i in range(len(self.outputs)):
            self.gave[i].type = lib.heed_plan_output_type(p, i)
        self.types = [(t.type.dtype, shape_of(t.type)) for t in self.gave[:len(self.outputs)]]
        number = ctypes.c_int()
        lib.heed_session_add(shared.session.pointer, p, byref(number))
        self.number = number.value

    def describe(self):
        return lib.heed_plan_describe(self.handle.pointer)


class Shared:
    """The session of a context and its plans."""

    def __init__(self, context):
        self.context = weakref.proxy(context)
        self.weights = made(_c.heed_weights, lib.heed_weights_new, lib.heed_weights_free, context.pointer,
                            keeps=(context.handle,))
        self.plans = collections.OrderedDict()   # live as long as the session
        self.session = made(_c.heed_session, lib.heed_session_new, lib.heed_session_free, context.pointer,
                            self.weights.pointer,
                            None, keeps=(self.weights, self.plans))

    def find(self, key, build):
        plan = self.plans.get(key)
        if plan is not None:
            self.plans.move_to_end(key)
            return plan
        plan = Plan(self, build)
        self.plans[key] = plan
        if len(self.plans) > KEPT:
            _, old = self.plans.popitem(last=False)
            lib.heed_session_remove(self.session.pointer, old.number)
            old.handle.close()
        return plan

    def run(self, plan, inputs, outputs):
        """inputs and outputs: addresses in the plan's order; 0: an output that is not wanted."""
        for i, a in enumerate(inputs):
            plan.took[i].data = a
        for i, a in enumerate(outputs):
            plan.gave[i].data = a or None
        lib.heed_session_run(self.session.pointer, plan.number, plan.took, len(plan.inputs), plan.gave,
                             len(plan.outputs))


def shared(context):
    """That of a context; hold context.lock while it is used."""
    if context.plans is None:
        context.plans = Shared(context)
    return context.plans


class Problem:
    """Types of the inputs and the spec: what forward and gradient are planned from.

    shapes   {"q": (dtype, shape), ...} of q, k, v and every tensor given, by heed's dtypes
    spec     as JSON has it, without seed and step
    """

    def __init__(self, shapes, spec, spec_key):
        self.shapes, self.spec = shapes, spec
        self.key = (tuple(sorted(shapes.items())), spec_key)
        self.names = ["q", "k", "v"] + sorted(n for n in shapes if n not in ("q", "k", "v"))

    def attention(self, b, stored=False):
        """Builds inputs and attention: ({name: value}, heed_attended). `stored`: inputs stored_out and so on
        are what forward gave."""
        values = {n: lib.heed_input(b, n.encode(), type_of(*self.shapes[n])) for n in self.names}
        spec, self.keep = _spec.descriptor(self.spec)
        tensors = getattr(spec, "in")
        for name, value in values.items():
            if name not in ("q", "k", "v"):
                setattr(tensors, name, value)
        for name in STORED if stored else ():
            (dtype, q), v = self.shapes["q"], self.shapes["v"][1]
            shape = q[:3] + v[3:] if name == "out" else q[:3]
            setattr(spec.stored, name, lib.heed_input(b, ("stored_" + name).encode(), type_of(dtype, shape)))
        return values, lib.heed_attention(b, values["q"], values["k"], values["v"], byref(spec))

    def forward(self, wanted):
        """Build function of the outputs that exist; `wanted` are those that not everyone wants: {"weights"}."""
        def build(b):
            _, got = self.attention(b)
            for name in ATTENDED:
                value = getattr(got, name)
                if value.id and (name not in COSTLY or name in wanted):
                    lib.heed_output(b, name.encode(), value)
        return build

    def only(self, name):
        """Build function of one output alone."""
        def build(b):
            lib.heed_output(b, name.encode(), getattr(self.attention(b)[1], name))
        return build

    def gradient(self, given, by, stored=False):
        """Build function of d_NAME for NAME in `by`, from d_out, d_weights and d_lse in `given`: from what
        forward stored, or else forward and gradient in one go."""
        def build(b):
            values, got = self.attention(b, stored)
            lib.heed_builder_status(b)           # a spec that is refused ends here, with its sentence
            ys = [getattr(got, name) for name in given]
            dys = []
            for name, y in zip(given, ys):
                if not y.id:
                    _spec.refuse("%s is not defined for this spec, so nothing can be propagated from it"
                                 % name)
                dys.append(lib.heed_input(b, ("d" + name).encode(), lib.heed_value_type(b, y)))
            wrt = [values[n] for n in by]
            out = (_c.heed_value * len(wrt))()
            array = _c.heed_value * len(ys)
            lib.heed_grad_of(b, array(*ys), array(*dys), len(ys), (_c.heed_value * len(wrt))(*wrt), len(wrt),
                             out)
            for name, value in zip(by, out):
                lib.heed_output(b, ("d_" + name).encode(), value)
        return build

