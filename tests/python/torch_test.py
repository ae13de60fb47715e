"""heed.torch: PyTorch tensors, gradients, whole trainings, transformers."""
import os
import resource
import subprocess
import sys
import threading

import torch
from torch import nn
from torch.nn import functional as F

import heed
import heed.torch as ht
from heed._library import lib
from sentences import refused, run, test

sdpa = F.scaled_dot_product_attention


def random(*shape, grad=True):
    return torch.randn(*shape, requires_grad=grad)


def close(a, b, atol=1e-5, rtol=1e-4):
    assert a.shape == b.shape, (a.shape, b.shape)
    worst = (a - b).abs().max().item() if a.numel() else 0
    assert torch.allclose(a, b, atol=atol, rtol=rtol), worst


def both(ours, theirs, *tensors):
    """Outputs and gradients of two functions of the same tensors agree."""
    got, grads = [], []
    for f in (ours, theirs):
        for t in tensors:
            t.grad = None
        out = f(*tensors)
        torch.manual_seed(1)
        out.backward(torch.randn(out.shape))
        got.append(out.detach())
        grads.append([t.grad.clone() for t in tensors])
    close(*got)
    for a, b in zip(*grads):
        close(a, b)


@test
def results_and_gradients_are_those_of_pytorch():
    torch.manual_seed(0)
    for tq, tk, causal in [(9, 9, False), (70, 70, True), (5, 131, False)]:
        both(lambda q, k, v: ht.attention(q, k, v, causal=causal),
             lambda q, k, v: sdpa(q, k, v, is_causal=causal),
             random(2, 4, tq, 8), random(2, 4, tk, 8), random(2, 4, tk, 8))


@test
def grouped_heads_masks_and_a_scale_agree():
    torch.manual_seed(0)
    keep = torch.rand(2, 1, 6, 7) < 0.7
    keep[..., 0] = True
    both(lambda q, k, v: ht.attention(q, k, v, mask=keep, scale=0.3),
         lambda q, k, v: sdpa(q, k, v, attn_mask=keep, scale=0.3, enable_gqa=True),
         random(2, 4, 6, 8), random(2, 2, 7, 8), random(2, 2, 7, 5))


@test
def views_that_are_not_dense_and_half_precision_agree():
    torch.manual_seed(0)
    both(lambda x: ht.attention(x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2)),
         lambda x: sdpa(x.transpose(1, 2), x.transpose(1, 2), x.transpose(1, 2)), random(2, 6, 3, 8))
    q = random(1, 2, 5, 8, grad=False).to(torch.bfloat16).requires_grad_()
    out = ht.attention(q, q, q)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert q.grad.dtype == torch.bfloat16


@test
def weights_and_lse_have_gradients_too():
    torch.manual_seed(0)

    def theirs(q, k, v):
        z = q @ k.transpose(2, 3) * 8 ** -0.5
        w = z.softmax(-1)
        return (w @ v).sum() + (w ** 2).sum() * 3 + (torch.logsumexp(z, -1) ** 2).sum()

    def ours(q, k, v):
        out, seen = ht.attention(q, k, v, weights=True)
        return out.sum() + (seen.weights ** 2).sum() * 3 + (seen.lse ** 2).sum()
    both(ours, theirs, random(2, 2, 5, 8), random(2, 2, 7, 8), random(2, 2, 7, 8))


@test
def learned_tensors_have_gradients():
    torch.manual_seed(0)
    far = torch.arange(7)[None] - torch.arange(5)[:, None] - 2
    keep = (far <= 0) & (far >= -2)

    def theirs(q, k, v, bias, sink, table):
        z = q @ k.transpose(2, 3) * 8 ** -0.5 + bias + table[far.clamp(-3, 3).abs()].permute(2, 0, 1)
        z = (4 * torch.tanh(z / 4)).masked_fill(~keep, float("-inf"))
        w = torch.cat([z, sink[None, :, None, None].expand(2, -1, 5, 1)], -1).softmax(-1)
        return w[..., :-1] @ v
    both(lambda q, k, v, bias, sink, table: ht.attention(q, k, v, window=[2, 0], softcap=4.0, sink=sink,
                                                         bias=bias + table[far.clamp(-3, 3).abs()].permute(2, 0, 1)),
         theirs, random(2, 4, 5, 8), random(2, 4, 7, 8), random(2, 4, 7, 6),
         random(1, 4, 1, 7), random(4), random(4, 4))


@test
def dropout_is_one_and_the_same_forward_and_backward_and_repeats_with_the_seed():
    q, k, v = random(2, 2, 40, 8), random(2, 2, 40, 8), torch.eye(40).repeat(2, 2, 1, 1).requires_grad_()

    def run(seed):
        torch.manual_seed(seed)
        return ht.attention(q, k, v, dropout={"p": 0.25})
    dropped, plain = run(3), ht.attention(q, k, v)
    share = (dropped == 0).float().mean().item()
    assert abs(share - 0.25) < 0.03, share
    close(dropped[dropped != 0], (plain / 0.75)[dropped != 0])
    assert torch.equal(run(3), dropped) and not torch.equal(run(4), dropped)
    up = torch.randn(2, 2, 40, 40)
    close(torch.autograd.grad(dropped, v, up)[0], dropped.detach().transpose(2, 3) @ up)
    fixed = [ht.attention(q, k, v, dropout={"p": 0.25, "seed": 7, "step": n}) for n in (0, 0, 1)]
    assert torch.equal(fixed[0], fixed[1]) and not torch.equal(fixed[0], fixed[2])


@test
def probes_are_reported_and_have_no_gradient():
    q = random(1, 2, 6, 8)
    out, seen = ht.attention(q, q, q, probe="entropy,received,topk:2,pooled:3x3,rows:0+5")
    w = (q @ q.transpose(2, 3) * 8 ** -0.5).softmax(-1)
    close(seen.entropy, -(w * w.log()).sum(-1), atol=1e-4)
    close(seen.received, w.sum(2), atol=1e-4)
    close(seen.rows, w[:, :, [0, 5]])
    close(seen.pooled, w.unflatten(2, (2, 3)).unflatten(4, (2, 3)).mean((3, 5)))
    assert torch.equal(seen.topk_indices, w.topk(2).indices) and not seen.entropy.requires_grad
    out.sum().backward()


@test
def a_gradient_is_made_only_where_it_is_wanted():
    q, k, v = random(1, 1, 3, 4), random(1, 1, 3, 4, grad=False), random(1, 1, 3, 4, grad=False)
    ht.attention(q, k, v).sum().backward()
    assert q.grad is not None and k.grad is None
    with torch.no_grad():
        assert not ht.attention(q, k, v).requires_grad


@test
def backward_takes_what_forward_stored_and_has_the_bytes_of_one_graph():
    torch.manual_seed(0)
    for more, computes in [({}, 0), ({"causal": True, "window": [40, 0], "sink": torch.zeros(4)}, 0),
                           ({"normaliser": "sparsemax"}, 0), ({"gate": torch.zeros(2, 4, 90, 8)}, 1)]:
        context = heed.Context(threads=2)
        q, k, v, dout = random(2, 4, 90, 8), random(2, 2, 70, 8), random(2, 2, 70, 8), torch.randn(2, 4, 90, 8)
        ht.attention(q, k, v, context=context, **more).backward(dout)
        arrays = {n: x.numpy() if isinstance(x, torch.Tensor) else x for n, x in more.items()}
        one = heed.attend(*(x.detach().numpy() for x in (q, k, v)), dout=dout.numpy(), context=context, **arrays)
        for x, name in ((q, "q"), (k, "k"), (v, "v")):
            assert x.grad.numpy().tobytes() == one.grad[name].tobytes(), (more, name)
        ours = [p for key, p in context.plans.plans.items() if key[1][0] == "gradient" and len(key[1]) == 4]
        assert len(ours) == 1
        plan = ours[0].handle.pointer
        ops = [lib.heed_plan_step_at(plan, i).op for i in range(lib.heed_plan_steps(plan))]
        assert (ops.count(b"attention"), ops.count(b"attention_grad")) == (computes, 1), (more, ops)


@test
def without_a_gradient_nothing_is_kept():
    context = heed.Context(threads=1)
    q = random(1, 1, 5, 4)
    with torch.no_grad():
        ht.attention(q, q, q, context=context)
    plan, = context.plans.plans.values()
    assert plan.outputs == ["out", "lse"]


@test
def threads_of_pytorch_may_call_at_once():
    torch.manual_seed(0)
    q, want, bad = random(1, 2, 50, 8), None, []
    want = torch.autograd.grad(ht.attention(q, q, q).sum(), q)[0]

    def work():
        for _ in range(20):
            if not torch.equal(torch.autograd.grad(ht.attention(q, q, q).sum(), q)[0], want):
                bad.append(1)
    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not bad


@test
def what_cannot_be_served_is_refused():
    q = random(1, 1, 3, 4)
    with refused(heed.SpecError, "casual"):
        ht.attention(q, q, q, casual=True)
    with refused(heed.DeviceError, "meta", ".cpu()"):
        ht.attention(torch.empty(1, 1, 3, 4, device="meta"), q, q)
    with refused(heed.DtypeError, "mask is torch.uint8", "true where a key is kept"):
        ht.attention(q, q, q, mask=torch.ones(3, 3, dtype=torch.uint8))
    with refused(heed.DtypeError, "q is torch.complex64"):
        ht.attention(q.to(torch.complex64), q, q)
    with refused(heed.DtypeError, "to_dense"):
        ht.attention(q.detach().to_sparse(), q, q)


@test
def a_second_derivative_is_refused_and_not_left_out():
    q = random(1, 1, 3, 4)
    g, = torch.autograd.grad(ht.attention(q, q, q).sum(), q, create_graph=True)
    assert g.requires_grad                               # a penalty on it must not come out as nothing
    plain, = torch.autograd.grad(ht.attention(q, q, q).sum(), q)
    assert torch.equal(g, plain)
    with refused(heed.MissingError, "no second derivative"):
        (q.sum() + g.square().sum()).backward()


@test
def lists_and_arrays_are_tensors_and_whole_numbers_are_numbers():
    q = random(1, 2, 3, 4, grad=False)
    close(ht.attention(q.numpy(), q.tolist(), q), ht.attention(q, q, q))
    close(ht.attention(q, q, q, sink=[0, 1]), ht.attention(q, q, q, sink=torch.tensor([0.0, 1.0])))


@test
def multihead_attention_of_torch_nn_gives_the_same_on_heed():
    torch.manual_seed(0)
    forbidden = torch.rand(5, 7) < 0.3
    forbidden[:, 0] = False
    padding = torch.arange(7) >= torch.tensor([7, 4, 6])[:, None]
    added = torch.randn(5, 7).masked_fill(forbidden, float("-inf"))
    for batch_first in (True, False):
        for masks in ({}, {"attn_mask": forbidden}, {"key_padding_mask": padding}, {"attn_mask": added},
                      {"attn_mask": forbidden, "key_padding_mask": padding}):
            for average in (True, False):
                torch.manual_seed(2)
                m = nn.MultiheadAttention(16, 4, batch_first=batch_first, kdim=6, vdim=5)
                q, k, v = random(3, 5, 16), random(3, 7, 6), random(3, 7, 5)
                args = [q, k, v] if batch_first else [x.transpose(0, 1) for x in (q, k, v)]
                want, w = m(*args, average_attn_weights=average, **masks)
                want.square().sum().backward()
                grads = [x.grad.clone() for x in (q, k, v, m.q_proj_weight)]
                for x in (q, k, v, m.q_proj_weight):
                    x.grad = None
                assert ht.convert(m) == 1
                got, seen = m(*args, average_attn_weights=average, **masks)
                got.square().sum().backward()
                close(got, want)
                close(seen.detach(), w.detach())
                for a, b in zip((q, k, v, m.q_proj_weight), grads):
                    close(a.grad, b, atol=1e-4)
    m = nn.MultiheadAttention(16, 4)
    x = random(5, 16)
    want = m(x, x, x)
    ht.convert(m)
    close(m(x, x, x)[0], want[0])


@test
def multihead_attention_refuses_what_pytorch_refuses():
    m, x = nn.MultiheadAttention(8, 2, batch_first=True).double(), torch.randn(2, 4, 8, dtype=torch.float64)
    assert m(x, x, x)[1].dtype == torch.float64
    ht.convert(m)
    assert m(x, x, x)[1].dtype == torch.float64
    m.float()
    x = x.float()
    for name in ("attn_mask", "key_padding_mask"):       # ones in it would keep what they ought to forbid
        mask = torch.ones(*((4, 4) if name == "attn_mask" else (2, 4)), dtype=torch.uint8)
        with refused(heed.DtypeError, name, "torch.uint8"):
            m(x, x, x, **{name: mask})
    for weights in (True, False):
        with refused(heed.UsageError, "is_causal", "attn_mask"):
            m(x, x, x, is_causal=True, need_weights=weights)


@test
def an_encoder_of_torch_nn_runs_on_heed_in_training_and_evaluation():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, batch_first=True)
    model = nn.TransformerEncoder(layer, 3)
    x, padding = random(2, 6, 16), torch.arange(6) >= torch.tensor([6, 4])[:, None]
    causal = nn.Transformer.generate_square_subsequent_mask(6)
    want = [model(x), model(x, mask=causal, is_causal=True), model(x, src_key_padding_mask=padding)]
    assert ht.convert(model) == 3
    for mode in (model.train, model.eval):
        mode()
        with ht.watch(weights=True) as seen, torch.no_grad():
            close(model(x), want[0])
            close(model(x, mask=causal, is_causal=True), want[1])
            close(model(x, src_key_padding_mask=padding)[~padding], want[2][~padding])
        assert len(seen) == 9 and not seen[3].weights.triu(1).any() and not seen[8].weights[1, :, :, 4:].any()


class Layer(nn.Module):
    """A pre-norm encoder layer whose attention is a function."""

    def __init__(self, width, heads, attend):
        super().__init__()
        self.heads, self.attend = heads, attend
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        b, t, e = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, e // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(self.attend(q, k, v).transpose(1, 2).reshape(b, t, e))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def losses(attend, steps=30):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(50, 32), *[Layer(32, 4, attend) for _ in range(4)], nn.LayerNorm(32),
                          nn.Linear(32, 50))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    out = []
    for _ in range(steps):
        x = torch.randint(0, 50, (8, 24))
        loss = F.cross_entropy(model(x).flatten(0, 1), x.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(loss.item())
    return out


@test
def an_encoder_of_four_layers_trains_as_with_pytorchs_own_attention():
    ours, theirs = losses(ht.attention), losses(sdpa)
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    print("     30 steps: loss %.4f to %.4f, largest difference to PyTorch's own attention %.1e"
          % (theirs[0], theirs[-1], worst))
    assert worst < 1e-4 and theirs[-1] < theirs[0] - 0.1


MEMORY = """
import resource, sys, torch, heed.torch as ht
q, k, v = (torch.randn(1, 8, 2048, 16, requires_grad=True) for _ in range(3))
small = [x[:, :, :64].detach().requires_grad_() for x in (q, k, v)]
def plain(q, k, v):
    return (q @ k.transpose(2, 3) * 0.25).softmax(-1) @ v
f = ht.attention if sys.argv[1] == "heed" else plain
f(*small).sum().backward()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
f(q, k, v).sum().backward()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@test
def nothing_of_size_t_by_t_is_ever_made():
    grew = {}
    for name in ("heed", "plain"):
        p = subprocess.run([sys.executable, "-c", MEMORY, name], capture_output=True, text=True)
        assert p.returncode == 0, p.stderr
        grew[name] = int(p.stdout)
    whole = 8 * 2048 * 2048 * 4 // 1024
    print("     T = 2048, 8 heads, forward and backward: memory grew by %d KiB with heed, %d KiB with T x T weights (%d KiB each)"
          % (grew["heed"], grew["plain"], whole))
    assert grew["heed"] < whole / 4 and grew["plain"] > whole


# ---- transformers ----

def transformers_is_there():
    try:
        import transformers
        transformers.logging.set_verbosity_error()
        return True
    except ImportError:
        print("     transformers is missing: not tried")
        return False


def pair(make, **config):
    """The same model with eager attention and with heed's."""
    ht.register()
    models = []
    for name in ("eager", "heed"):
        torch.manual_seed(0)
        models.append(make(attn_implementation=name, **config).train())
    return models


def bert(attn_implementation, **more):
    from transformers import BertConfig, BertForMaskedLM
    c = BertConfig(vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                   intermediate_size=48,
                   hidden_dropout_prob=0, attention_probs_dropout_prob=more.pop("dropout", 0), attn_implementation=attn_implementation)
    return BertForMaskedLM(c)


def llama(attn_implementation, **more):
    from transformers import LlamaConfig, LlamaForCausalLM
    c = LlamaConfig(vocab_size=60, hidden_size=32, num_hidden_layers=3, num_attention_heads=4,
                    num_key_value_heads=2,
                    intermediate_size=48, attn_implementation=attn_implementation, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return LlamaForCausalLM(c)


def gpt2(attn_implementation, **more):
    import transformers
    return transformers.GPT2LMHeadModel._from_config(transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=32, bos_token_id=1, eos_token_id=2, **more),
        attn_implementation=attn_implementation)


def mistral(attn_implementation, **more):
    from transformers import MistralConfig, MistralForCausalLM
    c = MistralConfig(vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                      num_key_value_heads=2,
                      intermediate_size=48, sliding_window=5, attn_implementation=attn_implementation)
    return MistralForCausalLM(c)


def compare(models, ids, mask):
    """Logits at tokens that count, loss, and every gradient."""
    counts = mask.bool()
    counts[:, 1:] &= mask[:, :-1].bool()                   # the first token after padding is predicted by padding
    labels = ids.masked_fill(~counts, -100)
    outs = [m(input_ids=ids, attention_mask=mask, labels=labels) for m in models]
    close(outs[0].logits[mask.bool()], outs[1].logits[mask.bool()], atol=1e-4)
    for o in outs:
        o.loss.backward()
    for (name, a), b in zip(models[0].named_parameters(), models[1].parameters()):
        if a.grad is not None:
            close(a.grad, b.grad, atol=1e-5, rtol=1e-3)


@test
def models_of_transformers_give_the_same_logits_and_gradients():
    if not transformers_is_there():
        return
    torch.manual_seed(5)
    ids = torch.randint(3, 60, (3, 11))
    whole = torch.ones_like(ids)
    right = whole.clone()
    right[1, 7:], right[2, 3:] = 0, 0
    left = right.flip(1)
    for make in (bert, llama, mistral):
        for mask in (whole, right, left):
            compare(pair(make), ids, mask)


@test
def a_cache_continues_to_the_same_tokens():
    if not transformers_is_there():
        return
    ids = torch.randint(3, 60, (2, 7))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    for make in (llama, mistral):
        a, b = pair(make)
        got = [m.eval().generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False) for m
               in (a, b)]
        assert torch.equal(*got)


@test
def output_attentions_is_served_without_eager_attention():
    if not transformers_is_there():
        return
    ids = torch.randint(3, 60, (2, 9))
    for make in (bert, llama, gpt2):
        outs = [m.eval()(input_ids=ids, output_attentions=True) for m in pair(make)]
        assert len(outs[1].attentions) == 3
        for x, y in zip(outs[0].attentions, outs[1].attentions):
            close(x, y)
        assert pair(make)[1].eval()(input_ids=ids).attentions is None


@test
def a_watch_sees_every_attention_and_changes_no_bit():
    if not transformers_is_there():
        return
    model = pair(bert)[1].eval()
    ids = torch.randint(3, 60, (2, 9))
    plain = model(input_ids=ids).logits
    with ht.watch(weights=True) as seen:
        watched = model(input_ids=ids).logits
    assert torch.equal(plain, watched) and len(seen) == 3
    assert seen[0].weights.shape == (2, 4, 9, 9) and "Attention" in type(seen[0].module).__name__
    close(seen[0].weights.sum(-1), torch.ones(2, 4, 9))
    model(input_ids=ids)
    assert len(seen) == 3


@test
def a_registered_name_brings_windows_probes_and_learned_biases_into_a_model():
    if not transformers_is_there():
        return
    ids = torch.randint(3, 60, (2, 9))
    ht.register("heed-window", window=[2, 2], probe="entropy", bias=lambda layer: layer.table)
    torch.manual_seed(0)
    model = bert("heed-window").train()
    for layer in model.bert.encoder.layer:
        layer.attention.self.table = nn.Parameter(torch.zeros(1, 4, 1, 9))
    with ht.watch(weights=True) as seen:
        model(input_ids=ids, labels=ids).loss.backward()
    assert len(seen) == 3 and seen[0].entropy.shape == (2, 4, 9)
    far = (torch.arange(9)[:, None] - torch.arange(9)[None]).abs() > 2
    assert not seen[1].weights[..., far].any()
    assert model.bert.encoder.layer[0].attention.self.table.grad.abs().max() > 0
    with refused(heed.SpecError, "windwo", "window"):
        ht.register("heed-x", windwo=[2, 2])


@test
def a_mask_that_only_pads_has_one_row():
    if not transformers_is_there():
        return
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function
    padding = torch.ones(2, 6, dtype=torch.long)
    assert ht._mask(2, 6, 6, mask_function=causal_mask_function, attention_mask=padding) is None
    padding[1, 4:] = 0
    m = ht._mask(2, 6, 6, mask_function=causal_mask_function, attention_mask=padding)
    assert m.shape == (2, 1, 1, 6) and m.dtype == ht.CAUSAL
    m = ht._mask(2, 6, 6, mask_function=bidirectional_mask_function, attention_mask=padding)
    assert m.shape == (2, 1, 1, 6) and m.dtype == torch.bool
    m = ht._mask(2, 3, 6, q_offset=1, mask_function=causal_mask_function, attention_mask=padding)
    assert m.shape == (2, 1, 3, 6) and m.dtype == torch.bool    # room to spare: rows are written out


if __name__ == "__main__":
    torch.set_num_threads(2)
    run(sys.argv[1:])
