"""pytorch/pytorch #169224: "[flex_attention] CPU support"

Asked: does FlexAttention work on a CPU, with a block mask, compiled or not, and is it as fast as SDPA? Found
there: the block mask is made on CUDA by default, compiling ends in an error that says nothing, and there is
no backward pass on the CPU.

heed: the mask is a few numbers of the spec (a window, block pairs, global tokens), the same call does forward
and backward, there is nothing to compile, and a combination without meaning is refused with a sentence. Times
are of this machine.
"""
import time

import torch

import heed.torch

sdpa = torch.nn.functional.scaled_dot_product_attention
torch.manual_seed(0)
B, H, T, D, W = 1, 4, 1024, 32, 64
q, k, v = (torch.randn(B, H, T, D, requires_grad=True) for _ in range(3))
i = torch.arange(T)
local = (i[None] <= i[:, None]) & (i[:, None] - i[None] <= W)
blocks = torch.rand(T // W, T // W) < 0.3
blocks |= torch.eye(T // W, dtype=torch.bool)
blocky = blocks.repeat_interleave(W, 0).repeat_interleave(W, 1)
tokens = torch.tensor([0, 511])
is_global = torch.isin(i, tokens)
with_globals = (local | is_global[None] | is_global[:, None]) & (i[None] <= i[:, None])

CASES = [
    ("causal window of %d" % W, dict(causal=True, window=[W, 0]), local),
    ("blocks of %d, 30 %% kept" % W, dict(block=[W, W], block_keep=blocks), blocky),
    ("window and global tokens", dict(causal=True, window=[W, 0], globals=tokens), with_globals),
]


def step(f):
    """Output, gradients and the best time of three."""
    best = None
    for _ in range(3):
        start = time.perf_counter()
        out = f()
        grads = torch.autograd.grad(out.square().sum(), (q, k, v))
        best = min(best or 1e9, time.perf_counter() - start)
    return out, grads, best


for name, spec, mask in CASES:
    out, grads, ours = step(lambda: heed.torch.attention(q, k, v, **spec))
    want, theirs_grads, theirs = step(lambda: sdpa(q, k, v, attn_mask=mask))
    pairs = zip((out,) + grads, (want,) + theirs_grads)
    error = max(float((a - b).abs().max().detach() / b.abs().max().detach()) for a, b in pairs)
    assert error < 1e-4, (name, error)
    print("%-26s forward and backward %5.0f ms, SDPA with the mask written out %5.0f ms; difference %.0e"
          % (name, ours * 1e3, theirs * 1e3, error))

try:
    heed.torch.attention(q, k, v, globals=tokens)
except heed.SpecError as e:
    print("refused with a sentence: %s" % e)
