"""pytorch/pytorch #98505: "F.scaled_dot_product_attention should return the attention weights as well"

Asked: the weights beside the output, for analysis. Answered there: no, the function is fast because it never
holds them.

heed: both are right, so one asks for what one wants to see. The output has the same bits whether anything is
asked for or not, and memory is taken for what was asked: one row of weights costs a row.
"""
import numpy as np

import heed

rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((1, 8, 512, 64), dtype=np.float32) for _ in range(3))


def peak(**what):
    """The result, and the library's own memory beside inputs and outputs."""
    context = heed.Context()
    r = heed.attend(q, k, v, causal=True, context=context, **what)
    return r, context.peak_bytes / 2**20


plain, plain_mib = peak()
every, every_mib = peak(weights=True)
rows, rows_mib = peak(probe={"rows": [511], "heads": [3]})

assert plain.out.tobytes() == every.out.tobytes() == rows.out.tobytes() and rows_mib < 1.2 * plain_mib
z = np.where(np.tril(np.ones((512, 512), bool)), q @ k.swapaxes(-1, -2) / 8, -np.inf)
w = np.exp(z - z.max(-1, keepdims=True))
w /= w.sum(-1, keepdims=True)
assert np.allclose(every.weights, w, atol=1e-6) and np.allclose(rows.rows[0, 0, 0], w[0, 3, 511], atol=1e-6)

print("asked for nothing:        out %s" % list(plain.out.shape))
print("asked for all weights:    out with the same bits, weights %s (%.1f MiB)"
      % (list(every.weights.shape), every.weights.nbytes / 2**20))
print("asked for one row:        out with the same bits, row %s (%d bytes)"
      % (list(rows.rows.shape), rows.rows.nbytes))
print("largest difference to softmax(q k^T / 8): %.1e" % np.abs(every.weights - w).max())
print("memory of the library (MiB): nothing %.1f, one row %.1f, all weights %.1f"
      % (plain_mib, rows_mib, every_mib))
