"""TransformerLensOrg/TransformerLens #378: "[Proposal] Optionally use flash attention."

Asked: attention that never holds its matrix, for speed and memory, in a library whose point is to look
inside; its price would be that the pattern is gone. Suggested there: where only a small part of it is needed,
keep the layer's input and compute that part again.

heed: does so by itself. A model runs without its patterns; a watch asks for the pattern of some heads and
rows, and gets those, from the same computation; the logits are the same to the bit.
"""
import torch
from transformers import LlamaConfig, LlamaForCausalLM, logging

import heed.torch

logging.set_verbosity_error()
heed.torch.register()
heed.torch.register("heed-two-heads", probe={"rows": [63], "heads": [0, 3]})
torch.manual_seed(0)
config = dict(vocab_size=100, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
              num_key_value_heads=2, intermediate_size=96,
              pad_token_id=0, bos_token_id=1, eos_token_id=2)


def model(attention):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(attn_implementation=attention, **config)).eval()


ids = torch.randint(3, 100, (1, 64))
with torch.no_grad():
    eager = model("eager")(input_ids=ids, output_attentions=True)
    plain = model("heed")(input_ids=ids).logits
    with heed.torch.watch() as seen:        # what the registered name asks for: heads 0 and 3, the last row
        part = model("heed-two-heads")(input_ids=ids).logits
    with heed.torch.watch(weights=True) as whole:
        every = model("heed")(input_ids=ids).logits

assert torch.equal(plain, part) and torch.equal(plain, every)
print("logits with nothing, with two rows and with all patterns asked for: the same bits")
print("largest difference of the logits to eager attention: %.1e" % (plain - eager.logits).abs().max())
for layer in range(4):
    pattern = eager.attentions[layer]
    assert torch.allclose(seen[layer].rows[0, :, 0], pattern[0, [0, 3], 63], atol=1e-5)
    assert torch.allclose(whole[layer].weights, pattern, atol=1e-5)
worst = max((seen[n].rows[0, :, 0] - eager.attentions[n][0, [0, 3], 63]).abs().max() for n in range(4))
print("4 layers, two heads at the last token: %d numbers a layer, not %d; largest difference to eager %.1e" % (
    seen[0].rows.numel(), whole[0].weights.numel(), worst))
first = whole[0].weights[0, :, 1:, 0].mean().item()
print("mean weight on the first token in layer 0: %.3f" % first)
