"""pytorch/pytorch #148752: "Compiling Flex Attention on CPU: ... IndexError: tuple index out of range"

Asked: training with FlexAttention on a CPU, for fairly small transformers on tabular data with sequences of
varying length, where no GPU is at hand. Answered there: training on the CPU is not supported, inference only.

heed: lengths, windows and a learned bias on the CPU, with gradients, without a compiler. A small model learns
to name the mean of the cells that are there, whose number varies from row to row.
"""
import torch
from torch import nn

import heed.torch

torch.manual_seed(0)

try:                                                     # what PyTorch says today
    from torch.nn.attention.flex_attention import flex_attention
    x = torch.randn(1, 1, 8, 16, requires_grad=True)
    torch.compile(flex_attention)(x, x, x).sum().backward()
    print("FlexAttention trains on this CPU with torch %s" % torch.__version__)
except Exception as e:
    print("FlexAttention on this CPU, torch %s: %s"
          % (torch.__version__, str(e).strip().splitlines()[0][:110]))


class Model(nn.Module):
    def __init__(self, attend, cells=12, width=32, heads=4):
        super().__init__()
        self.attend, self.heads = attend, heads
        self.up, self.qkv, self.down = nn.Linear(1, width), nn.Linear(width, 3 * width), nn.Linear(width, 1)
        self.bias = nn.Parameter(torch.zeros(1, heads, 1, cells))      # learned: how much each column counts

    def forward(self, x, lengths):
        b, t = x.shape
        q, k, v = self.qkv(self.up(x[..., None])).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = self.attend(q, k, v, self.bias, lengths).transpose(1, 2).flatten(2)
        there = (torch.arange(t) < lengths[:, None]).float()
        return (self.down(y)[..., 0] * there).sum(1) / lengths


def ours(q, k, v, bias, lengths):
    return heed.torch.attention(q, k, v, bias=bias, lengths=lengths, q_lengths=lengths)


def theirs(q, k, v, bias, lengths):
    keep = (torch.arange(k.shape[2]) < lengths[:, None])[:, None, None, :]
    return nn.functional.scaled_dot_product_attention(q, k, v,
                                                      attn_mask=bias.masked_fill(~keep, float("-inf")))


def train(attend, steps=60):
    torch.manual_seed(1)
    model = Model(attend)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        lengths = torch.randint(2, 13, (64,))
        x = torch.randn(64, 12)
        there = torch.arange(12) < lengths[:, None]
        want = (x * there).sum(1) / lengths
        loss = ((model(x, lengths) - want) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model.bias.grad


a, grad = train(ours)
b, grad_b = train(theirs)
print("60 steps on heed: loss %.4f to %.4f; on PyTorch's dense attention %.4f to %.4f"
      % (a[0], a[-1], b[0], b[-1]))
print("largest difference of the losses: %.1e; of the bias's gradient: %.1e" % (
    max(abs(x - y) for x, y in zip(a, b)), (grad - grad_b).abs().max()))
assert max(abs(x - y) for x, y in zip(a, b)) < 1e-3 and a[-1] < a[0] / 4 and grad.abs().max() > 0
