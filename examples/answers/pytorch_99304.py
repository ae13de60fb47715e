"""pytorch/pytorch #99304: "Need TransformerEncoder to output attention map"

Asked: the attention maps of torch.nn.TransformerEncoder, which calls its attention with need_weights=False
and keeps nothing.

heed: heed.torch.convert(model) lets every nn.MultiheadAttention of a model compute on heed, with its own
parameters; inside heed.torch.watch(...) each tells what was asked, also in evaluation and with padding.
Nothing of the model is rewritten.
"""
import torch
from torch import nn

import heed.torch

torch.manual_seed(0)
layer = nn.TransformerEncoderLayer(d_model=32, nhead=4, dim_feedforward=64, dropout=0.1, batch_first=True)
model = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False).eval()
x = torch.randn(2, 10, 32)
padding = torch.arange(10) >= torch.tensor([10, 6])[:, None]
before = model(x, src_key_padding_mask=padding)

count = heed.torch.convert(model)
with heed.torch.watch(probe="entropy", weights=True) as seen:
    after = model(x, src_key_padding_mask=padding)

assert count == len(seen) == 3
assert torch.allclose(before[~padding], after[~padding], atol=1e-5)
print("%d attentions converted; largest change of the model's output: %.1e"
      % (count, (before - after)[~padding].abs().max().detach()))
for i, entry in enumerate(seen):
    w = entry.weights
    assert w.shape == (2, 4, 10, 10) and torch.allclose(w.sum(-1), torch.ones(2, 4, 10), atol=1e-5)
    assert not w[1, :, :, 6:].any()                     # padding receives nothing
    if i == 0:                                          # the first layer can be checked by hand
        q, k, _ = nn.functional.linear(x, entry.module.in_proj_weight, entry.module.in_proj_bias).chunk(3, -1)
        z = (q.view(2, 10, 4, 8).transpose(1, 2) @ k.view(2, 10, 4, 8).permute(0, 2, 3, 1)) * 8 ** -0.5
        by_hand = z.masked_fill(padding[:, None, None], float("-inf")).softmax(-1)
        print("layer 0: largest difference to weights by hand %.1e" % (w - by_hand).abs().max().detach())
        assert torch.allclose(w, by_hand, atol=1e-5)
    print("layer %d: weights %s, entropy by head %s"
          % (i, list(w.shape), ["%.2f" % e for e in entry.entropy[0].mean(1).tolist()]))
