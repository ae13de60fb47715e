"""pytorch/pytorch #143993: "Return attention weights in scaled_dot_product_attention"

Asked: the weights in generation, where the query is one token, because policies that throw keys out of a
cache ("heavy hitters") need what each key receives; passing an identity as V is no way, since it is larger
than the cache.

heed: the probe `received` is that number, [B,Hq,Tk], beside the output of the same call. Here a cache of 32
keys decodes 96 tokens; the key that received least so far goes, against the policy that drops the oldest.
"""
import numpy as np

import heed

STEPS, ROOM, H, D = 96, 32, 2, 16
rng = np.random.default_rng(4)
keys, values = rng.standard_normal((2, STEPS, H, D)).astype(np.float32)
queries = rng.standard_normal((STEPS, H, D)).astype(np.float32)
important = [1, 3, 5, 7]                                 # early keys that every query looks for
keys[important] += 1.5
queries += 1.5


def decode(policy):
    """Mean distance of the outputs to those of a cache that keeps everything."""
    kept, received, error, probed = [], np.zeros(STEPS), [], 0
    for t in range(STEPS):
        kept.append(t)
        q = queries[t][None, :, None, :]
        r = heed.attend(q, keys[kept].transpose(1, 0, 2)[None], values[kept].transpose(1, 0, 2)[None],
                        probe="received")
        full = heed.attend(q, keys[:t + 1].transpose(1, 0, 2)[None], values[:t + 1].transpose(1, 0, 2)[None])
        error.append(float(np.abs(r.out - full.out).mean()))
        received[kept] += r.received[0].sum(0)
        probed = r.received.nbytes
        if len(kept) > ROOM:
            kept.remove(min(kept[:-1], key=lambda j: received[j]) if policy == "received" else kept[0])
    return np.mean(error[ROOM:]), probed, [j for j in important if j in kept]


by_received, nbytes, left = decode("received")
by_age, _, gone = decode("oldest")
print("what the probe costs a step: %d bytes; an identity as V would be %d" % (nbytes, H * ROOM * ROOM * 4))
print("error of a cache of %d keys of %d: dropping what received least %.4f, dropping the oldest %.4f"
      % (ROOM, STEPS, by_received, by_age))
print("keys that matter still there: %s by what they received, %s by age" % (left, gone))
assert by_received < by_age / 2 and left == important and not gone
