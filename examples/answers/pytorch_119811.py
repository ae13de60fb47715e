"""pytorch/pytorch #119811: "[Feature Request] Return Attention Weights for scaled_dot_product_attention"

Asked: an argument that returns the weights, for interpretability; people report that weights written by hand
do not reproduce the function's output. Answered there: write your own in Python.

heed: weights, or what one wants to know of them (where a row looks most, how spread it is, what a key
receives, how far a head looks), from the very computation that made the output; and gradients through the
weights, for losses that guide attention.
"""
import torch

import heed.torch

torch.manual_seed(0)
q, k, v = (torch.randn(2, 4, 100, 32, requires_grad=True) for _ in range(3))

out, seen = heed.torch.attention(q, k, v, probe="entropy,received,distance,topk:3", weights=True)
reference = torch.nn.functional.scaled_dot_product_attention(q, k, v)
w = (q @ k.transpose(2, 3) * 32 ** -0.5).softmax(-1)

assert torch.allclose(out, reference, atol=1e-5)
assert torch.allclose(seen.weights, w, atol=1e-6)
assert torch.allclose(seen.weights @ v, out, atol=1e-5)
assert torch.allclose(seen.entropy, -(w * w.log()).sum(-1), atol=1e-4)
assert torch.allclose(seen.received, w.sum(2), atol=1e-4)
assert torch.equal(seen.topk_indices, w.topk(3).indices)

print("largest difference of out to PyTorch's: %.1e" % (out - reference).abs().max().detach())
print("largest difference of weights @ v to out: %.1e" % (seen.weights @ v - out).abs().max().detach())
print("query 0 of head 0 looks at keys %s with %s" % (seen.topk_indices[0, 0, 0].tolist(),
                                                       seen.topk_values[0, 0, 0].numpy(force=True).round(3)))
print("entropy of the heads (nats, of at most %.2f): %s"
      % (torch.log(torch.tensor(100.)), ["%.2f" % x for x in seen.entropy.mean((0, 2)).tolist()]))

guide = torch.eye(100)                      # a loss on the weights themselves: attend to your own place
loss = ((seen.weights - guide) ** 2).mean()
ours = torch.autograd.grad(loss, (q, k))
theirs = torch.autograd.grad(((w - guide) ** 2).mean(), (q, k))
worst = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))
assert worst < 1e-4
print("gradient of a loss on the weights, by q and k: relative difference to autograd %.1e" % worst)
