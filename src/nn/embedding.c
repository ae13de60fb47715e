/* embedding: rows of a table. ids i64 [...] -> [..., width]; weight [rows, width] begins N(0, 1). The
 * padding row begins as zeros and gets no gradient (torch.nn.Embedding): ids of it read a copy behind
 * stop_grad. */

#include "nn/nn.h"

heed_value heed_embedding(heed_builder *b, const char *name, heed_value ids, int64_t rows_n, int64_t width,
                          const heed_embedding_opts *opts)
{
    static const heed_init normal = { .kind = HEED_INIT_NORMAL, .b = 1 };
    heed_init init = opts && opts->init ? *opts->init : normal;
    heed_value w, y;

    if (opts && opts->padding_idx.set)
        init.zero_row = opts->padding_idx;
    heed_scope_push(b, name);
    w = heed_param(b, "weight", HEED_TYPE(HEED_F32, rows_n, width), &init);
    y = heed_gather(b, w, ids, 0);
    if (opts && opts->padding_idx.set) {
        heed_value padding = heed_eq(b, ids, heed_scalar(b, HEED_I64, (double)opts->padding_idx.value));

        y = heed_select(b, heed_unsqueeze(b, padding, heed_rank(b, ids)), heed_stop_grad(b, y), y);
    }
    heed_scope_pop(b);
    return y;
}
