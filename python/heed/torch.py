"""heed's attention inside PyTorch: on CPU tensors, with gradients, and as attention "heed" of transformers.

    out = heed.torch.attention(q, k, v, causal=True, window=[128, 0], bias=table)   # gradients by all four
    out, seen = heed.torch.attention(q, k, v, probe="entropy,received", weights=True)

    heed.torch.register()                                        # once
    model = AutoModel.from_config(config, attn_implementation="heed")
    with heed.torch.watch(probe="entropy") as seen:              # every attention of the model
        model(**inputs)

    heed.torch.convert(model)                            # every torch.nn.MultiheadAttention of a model

Tensors are read and written where they lie when they are float32 and dense; nothing of size T x T is made
unless it is asked for.
"""
import contextlib
import json
import threading
import types

import torch
from torch import nn

from . import _c, _plans, _spec
from ._attention import plain
from ._library import default_context, error

DTYPES = {torch.float32: _c.HEED_F32, torch.int64: _c.HEED_I64, torch.bool: _c.HEED_BOOL}
TORCH = {v: k for k, v in DTYPES.items()}
KINDS = {"f": torch.float32, "i": torch.int64, "b": torch.bool}


def _tensor(name, value):
    """value as a dense CPU tensor of a dtype that attention takes; gradients flow through what is
    converted."""
    if not isinstance(value, torch.Tensor):
        value = torch.as_tensor(value)
    if value.device.type != "cpu":
        raise error("HEED_ERR_DEVICE", "attention: %s is on %s, and heed computes on the CPU: use .cpu()"
                    % (name, value.device))
    if value.layout != torch.strided:
        raise error("HEED_ERR_DTYPE", "attention: %s is %s: use .to_dense()" % (name, value.layout))
    kind = ("b" if value.dtype == torch.bool else "f" if value.is_floating_point() else
            "c" if value.is_complex() else "i")
    value = value.to(KINDS[_spec.kept_as(name, kind, value.dtype, name in ("q", "k", "v", "q2", "k2"))])
    if name in _spec.FULL and value.ndim < 4:
        value = value.reshape((1,) * (4 - value.ndim) + tuple(value.shape))
    return value.contiguous()


def _run(context, problem, key, build, inputs):
    """Runs the plan of that key over {name: tensor}; gives {name: tensor}."""
    with context.lock:
        shared = _plans.shared(context)
        plan = shared.find((problem.key, key), build)
        out = {n: torch.empty(shape, dtype=TORCH[t]) for n, (t, shape) in zip(plan.outputs, plan.types)}
        shared.run(plan, [inputs[n].data_ptr() for n in plan.inputs], [t.data_ptr() for t in out.values()])
        return out


class _Once(torch.autograd.Function):
    """Gradients as they are, for backward(create_graph=True). Whoever differentiates them is told that heed has
    no second derivative: a penalty on gradients that silently does nothing is worse than none."""

    @staticmethod
    def forward(ctx, follow, *grads):
        return tuple(g.view_as(g) for g in grads)

    @staticmethod
    def backward(ctx, *upstream):
        raise error("HEED_ERR_MISSING", "attention: there is no second derivative: compute this attention with "
                    "torch.nn.functional.scaled_dot_product_attention where gradients are differentiated again")


class _Attention(torch.autograd.Function):
    """Forward keeps its inputs and, for a gradient, its result and two numbers a row. Backward makes weights
    again from them, tile by tile. Where they are not enough (a gate, talking heads, a difference) it computes
    the attention again, and its gradient with it."""

    @staticmethod
    def forward(ctx, context, problem, weights, *tensors):
        inputs = dict(zip(problem.names, tensors))
        wanted = ("weights",) if weights else ()
        if problem.differentiates:
            wanted += ("lse_rest",)
        got = _run(context, problem, ("forward", wanted), problem.forward(wanted), inputs)
        kept = [got[n] for n in _plans.STORED] if "lse_rest" in got else []
        got.pop("lse_rest", None)
        ctx.context, ctx.problem, ctx.given = context, problem, list(got)
        ctx.save_for_backward(*tensors, *kept)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*[t for n, t in got.items() if n not in _plans.UPSTREAM])
        problem.outputs = list(got)
        return tuple(got.values())

    @staticmethod
    def backward(ctx, *upstream):
        with torch.no_grad():
            grads = _Attention.once(ctx, upstream)
        if torch.is_grad_enabled():                      # create_graph=True
            some = [g for g in grads if g is not None]
            with_graph = iter(_Once.apply(torch.empty(0, requires_grad=True), *some) if some else ())
            grads = tuple(None if g is None else next(with_graph) for g in grads)
        return grads

    @staticmethod
    def once(ctx, upstream):
        problem = ctx.problem
        up = {n: g for n, g in zip(ctx.given, upstream) if g is not None and n in _plans.UPSTREAM}
        by = [n for n, wanted in zip(problem.names, ctx.needs_input_grad[3:]) if wanted]
        if not up or not by:
            return (None,) * (3 + len(problem.names))
        given = tuple(n for n in _plans.UPSTREAM if n in up)
        saved = ctx.saved_tensors
        inputs = dict(zip(problem.names, saved))
        stored = len(saved) > len(problem.names)
        if stored:
            inputs.update(zip(("stored_" + n for n in _plans.STORED), saved[len(problem.names):]))
        inputs.update(("d" + n, up[n].to(torch.float32).contiguous()) for n in given)
        got = _run(ctx.context, problem, ("gradient", given, tuple(by), stored),
                   problem.gradient(given, by, stored), inputs)
        return (None, None, None) + tuple(got.get("d_" + n) for n in problem.names)


def attention(q, k, v, spec=None, *, probe=None, weights=False, context=None, **names):
    """Attention of q [B,Hq,Tq,D] on k, v [B,Hkv,Tk,D]: CPU tensors, computed in float32.

    spec, names   as heed.attend takes them; tensors (bias, sink, lengths, mask, ...) are tensors of PyTorch,
                  and every floating one gets a gradient
    probe         "entropy,received,topk:4": what to report beside
    weights       True: all weights, through which gradients flow as well

    Gives out [B,Hq,Tq,Dv]; with probe or weights (out, seen), seen.lse, seen.weights, seen.entropy and so on.
    Dropout without a seed takes one from PyTorch's generator, so torch.manual_seed repeats it.
    """
    context = context or default_context()
    dtype = q.dtype if isinstance(q, torch.Tensor) else torch.float32
    spec, tensors = _spec.merge(spec, names)
    combine = spec.get("combine")
    if isinstance(combine, dict) and combine.get("dropout"):
        drop = combine["dropout"]
        drop = dict(drop) if isinstance(drop, dict) else {"p": drop}
        if drop.get("p") and "seed" not in drop and "rng" not in tensors:
            tensors["rng"] = torch.stack([torch.randint(0, 2**63 - 1, ()),
                                          torch.zeros((), dtype=torch.int64)])
        spec["combine"] = dict(combine, dropout=drop)
    spec, tensors = _spec.split(spec, tensors, probe)
    given = {"q": _tensor("q", q), "k": _tensor("k", k), "v": _tensor("v", v)}
    for name, value in tensors.items():
        if name not in _spec.TENSORS:
            _spec.unknown("", name, _spec.TENSORS)
        given[name] = _tensor(name, value)
    key = json.dumps(spec, sort_keys=True, default=plain)
    problem = _plans.Problem({n: (DTYPES[t.dtype], tuple(t.shape)) for n, t in given.items()}, spec, key)
    problem.differentiates = torch.is_grad_enabled() and any(t.requires_grad for t in given.values())
    values = _Attention.apply(context, problem, bool(weights), *[given[n] for n in problem.names])
    got = dict(zip(problem.outputs, values))
    out = got.pop("out").to(dtype)
    return (out, types.SimpleNamespace(**got)) if probe is not None or weights else out


# ---- watching ----

_watching = threading.local()


class Watch:
    """What attentions gave while they were watched: one entry each, in the order in which they ran.
    entry.module is the layer, entry.layer its number where it has one; the rest are tensors."""

    def __init__(self, probe, weights):
        self.probe, self.weights, self.entries = probe, weights, []

    def __iter__(self):
        return iter(self.entries)

    def __len__(self):
        return len(self.entries)

    def __getitem__(self, i):
        return self.entries[i]


@contextlib.contextmanager
def watch(probe=None, weights=False):
    """Collects probes (or all weights) of every attention "heed" that runs inside: with watch("entropy") as
    seen: model(...)."""
    stack = _watching.__dict__.setdefault("stack", [])
    w = Watch(_spec.probes(probe), weights)
    stack.append(w)
    try:
        yield w
    finally:
        stack.remove(w)


def _watched(module, q, k, v, spec, names, weights, probe=None):
    """The attention of a layer: (out, seen), with what is asked for and what watches want."""
    stack = getattr(_watching, "stack", [])
    probe = dict(_spec.probes(names.pop("probe", None)) or {}, **probe or {})
    for w in stack:
        probe.update(w.probe or {})
    out, seen = attention(q, k, v, spec, probe=probe, weights=weights or any(w.weights for w in stack),
                          **{n: x for n, x in names.items() if x is not None})
    for w in stack:
        w.entries.append(types.SimpleNamespace(module=module, layer=getattr(module, "layer_idx", None),
                                               **vars(seen)))
    return out, seen


# ---- masks of PyTorch and transformers ----

def _keep_and_bias(mask):
    """(bool mask, bias) of an attention mask: a bool one keeps where true; one of floats is added, and
    forbids where it is very small."""
    if not mask.is_floating_point():
        return mask.bool(), None
    keep = mask > torch.finfo(mask.dtype).min / 2
    if bool(((mask == 0) | ~keep).all()):
        return keep, None
    return keep, torch.where(keep, mask, torch.zeros((), dtype=mask.dtype))


# ---- torch.nn ----

class MultiheadAttention(nn.MultiheadAttention):
    """torch.nn.MultiheadAttention on heed: the same parameters, arguments and results. Weights cost memory
    where need_weights asks for them. With bias_k, bias_v or add_zero_attn it is PyTorch's own."""

    def forward(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                average_attn_weights=True, is_causal=False):
        if self.bias_k is not None or self.add_zero_attn:
            return super().forward(query, key, value, key_padding_mask, need_weights, attn_mask,
                                   average_attn_weights, is_causal)
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        e, h = self.embed_dim, self.num_heads
        names = self._masks(query.shape, key.shape, key_padding_mask, attn_mask, is_causal)
        if self._qkv_same_embed_dim:
            maps = self.in_proj_weight.split(e)
        else:
            maps = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.split(e)
        q, k, v = (nn.functional.linear(x, m, b).unflatten(-1, (h, e // h)).transpose(1, 2)
                   for x, m, b in zip((query, key, value), maps, biases))
        if self.training and self.dropout:
            names["dropout"] = {"p": float(self.dropout)}
        mean = need_weights and average_attn_weights and "mean" in _plans.ATTENDED
        out, seen = _watched(self, q, k, v, {}, names, need_weights and not mean,
                             {"mean": True} if mean else None)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        weights = None
        if need_weights:
            weights = seen.mean if mean else seen.weights.mean(1) if average_attn_weights else seen.weights
            weights = weights.to(out.dtype)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _masks(self, q_shape, k_shape, padding, mask, is_causal):
        """PyTorch's masks, in which True forbids and numbers are added, as heed's, in which true keeps."""
        b, tq, tk = q_shape[0], q_shape[1], k_shape[1]
        for name, x in (("attn_mask", mask), ("key_padding_mask", padding)):
            if x is not None and x.dtype != torch.bool and not x.is_floating_point():
                raise error("HEED_ERR_DTYPE", "attention: %s is %s; it must be bool, true where attending is "
                            "forbidden, or floating, added to the scores" % (name, x.dtype))
        if is_causal and mask is None:
            raise error("HEED_ERR_USAGE", "attention: is_causal is a hint about attn_mask: give the mask as well "
                        "(torch.nn.Transformer.generate_square_subsequent_mask makes it)")
        names = {"causal": bool(is_causal) and tq == tk}
        keep = bias = None
        if mask is not None and not names["causal"]:
            mask = ~mask if mask.dtype == torch.bool else mask
            keep, bias = _keep_and_bias(mask.reshape(b, self.num_heads, tq, tk) if mask.dim() == 3
                                        else mask[None, None])
        if padding is not None:
            padding = ~padding if padding.dtype == torch.bool else padding
            alone, added = _keep_and_bias(padding[:, None, None, :])
            keep = alone if keep is None else keep & alone
            bias = added if bias is None else bias if added is None else bias + added
        return dict(names, mask=keep, bias=bias)


def convert(model):
    """Makes every torch.nn.MultiheadAttention of a model run on heed, those inside TransformerEncoder and its
    like among them. Parameters stay what they are. Gives their number; `watch` sees them."""
    n = 0
    for module in model.modules():
        if type(module) is nn.MultiheadAttention:
            module.__class__ = MultiheadAttention
            n += 1
        elif isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0   # the fused layer of evaluation has an attention of its own
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return n


# ---- transformers ----

def _forward(more, module, query, key, value, attention_mask=None, scaling=None, dropout=0.0, is_causal=None,
             softcap=None, position_bias=None, s_aux=None, **kwargs):
    """The attention function of transformers: query [B,H,Tq,D], gives (out [B,Tq,H,D], weights or None)."""
    spec, names = {}, {}
    tq, tk = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if attention_mask is None:
        names["causal"] = bool(causal) and tq > 1
    else:
        names["causal"] = attention_mask.dtype == CAUSAL
        names["mask"], names["bias"] = _keep_and_bias(attention_mask[..., :tk])
    if position_bias is not None:
        names["bias"] = position_bias if names.get("bias") is None else names["bias"] + position_bias
    if scaling is not None:
        names["scale"] = float(scaling)
    if softcap is not None:
        names["softcap"] = float(softcap)
    if s_aux is not None:
        names["sink"] = s_aux
    if dropout:
        names["dropout"] = {"p": float(dropout)}
    for name, x in more.items():
        names[name] = x(module) if callable(x) else x
    asked = (kwargs.get("output_attentions") or _recording() or
             getattr(getattr(module, "config", None), "output_attentions", False))
    out, seen = _watched(module, query, key, value, spec, names, bool(asked))
    weights = getattr(seen, "weights", None)
    return out.transpose(1, 2).contiguous(), None if weights is None else weights.to(query.dtype)


def _recording():
    """Whether transformers collects attentions right now: some models keep output_attentions to themselves
    (GPT-2) and take from each layer what it returns."""
    try:
        from transformers.utils.output_capturing import _active_collector
    except ImportError:                                  # another version: it passes the argument on
        return False
    return any("attentions" in name for name in _active_collector.get() or ())


# The dtype of a mask that stands for causality as well: models slice masks and move them, and dtypes stay.
CAUSAL = torch.uint8


def _mask(batch_size, q_length, kv_length, q_offset=0, kv_offset=0, mask_function=None, attention_mask=None,
          **kwargs):
    """The mask of transformers, without rows where rows differ by causality alone: [B,1,1,Tk] of padding, or
    none at all."""
    from transformers import masking_utils as m
    causal = mask_function is m.causal_mask_function
    attention_mask = None if attention_mask is None else attention_mask.bool()
    last = isinstance(q_offset, int) and q_offset + q_length == kv_offset + kv_length
    if causal and last or mask_function is m.bidirectional_mask_function:
        padding = m.prepare_padding_mask(attention_mask, kv_length, kv_offset)
        if padding is not None:
            padding = padding[:, kv_offset:kv_offset + kv_length][:, None, None, :]
        if padding is None or bool(padding.all()):
            return None
        return padding.to(CAUSAL) if causal and q_length > 1 else padding
    kwargs["allow_is_causal_skip"] = kwargs["allow_is_bidirectional_skip"] = False
    return m.sdpa_mask(batch_size=batch_size, q_length=q_length, kv_length=kv_length, q_offset=q_offset,
                       kv_offset=kv_offset,
                       mask_function=mask_function or m.causal_mask_function, attention_mask=attention_mask, **kwargs)


def register(name="heed", **more):
    """Makes attn_implementation=name of transformers run on heed. `more` are fields and tensors for every
    attention of the model, window=[128, 0] or bias=lambda layer: layer.table; give each combination a name of
    its own."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface
    known = {n: x for n, x in more.items() if n != "probe" and not callable(x)}
    _spec.merge({}, known)                                 # a field that is not known ends here

    def heed_attention(*args, **kwargs):
        return _forward(more, *args, **kwargs)
    AttentionInterface.register(name, heed_attention)
    AttentionMaskInterface.register(name, _mask)
