/* attention_probe: what can only be summed once all weights of a row are known, by a second pass over saved log-sums.
 *
 *   pooled [B,Hq,ceil(Tq/a),ceil(Tk/c)] mean of w in blocks · received [B,Hq,Tk] sum_i w_ij · mean [B,Tq,Tk] over heads */

#include "attention/compose.h"

static const op_slot attention_probe_in[] = {
    ATTENTION_INPUTS(ATTENTION_SLOT){ .name = "lse", .dtypes = FLOATS, .flags = OPTIONAL },
    { .name = "lse_rest", .dtypes = FLOATS, .flags = OPTIONAL },
    SLOT_END,
};
static const op_slot attention_probe_out[] = {
    { .name = "pooled" }, { .name = "received" }, { .name = "mean" }, SLOT_END
};

heed_type heed__attention_pooled_type(const attention_attrs *a, const heed_type *q, const heed_type *k)
{
    return heed_type_of(q->dtype, 4,
                        (const int64_t[]){ q->dims[0], q->dims[1], i64_ceil_div(q->dims[2], a->pooled_q),
                                           i64_ceil_div(k->dims[2], a->pooled_k) });
}

heed_type heed__attention_received_type(const heed_type *q, const heed_type *k)
{
    return heed_type_of(q->dtype, 3, (const int64_t[]){ q->dims[0], q->dims[1], k->dims[2] });
}

static heed_status attention_probe_infer(op_infer *t)
{
    const attention_attrs *a = t->attrs;
    const heed_type *q = &t->in[AT_Q], *k = &t->in[AT_K];

    TRY(heed__attention_check(t));
    if (a->pooled_q < 1 || a->pooled_k < 1)
        return heed__refuse(t, HEED_ERR_SPEC, "probe.pooled must hold two sizes of at least 1");
    t->out[AT_GET_POOLED] = heed__attention_pooled_type(a, q, k);
    t->out[AT_GET_RECEIVED] = heed__attention_received_type(q, k);
    t->out[AT_GET_MEAN] =
        heed_type_of(q->dtype, 3, (const int64_t[]){ q->dims[0], q->dims[2], k->dims[2] });
    return HEED_OK;
}

static void attention_probe_decompose(op_decompose *d)
{
    const attention_attrs *a = d->attrs;
    const heed_dtype dtype = heed_value_type(d->b, d->in[AT_Q]).dtype;
    const attention_parts p = heed__attention_parts(d->b, a, d->in, d->n_in);
    heed_value lse;
    const heed_value w = heed__attention_normalise(&p, heed__attention_logits(&p), &lse);

    d->out[AT_GET_POOLED] = heed__as(d->b, heed__probe_pooled(d->b, w, a->pooled_q, a->pooled_k), dtype);
    d->out[AT_GET_RECEIVED] = heed__as(d->b, heed__probe_received(d->b, w), dtype);
    d->out[AT_GET_MEAN] = heed__as(d->b, heed__probe_mean(d->b, w), dtype);
}

void heed__attention_probe(heed_builder *b, const attention_attrs *a, const heed_value in[AT_INPUTS],
                           const heed_value core[AT_OUTPUTS], heed_value out[AT_PROBE_OUTPUTS])
{
    attention_attrs with = *a;
    heed_value all[AT_PROBE_INPUTS] = { { 0 } };

    for (int i = 0; i < AT_INPUTS; i++)
        all[i] = in[i];
    if (heed__attention_has_lse(a)) {
        all[AT_LSE] = core[AT_GET_LSE];
        all[AT_LSE_REST] = core[AT_GET_LSE_REST];
    }
    if (a->pooled_q == 0) /* not asked for: few cells that nobody uses */
        with.pooled_q = with.pooled_k = 64;
    heed__nodes(b, &heed__op_attention_probe, &with, all, AT_PROBE_INPUTS, out);
}

static const op_sample attention_probe_samples[] = {
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 7, 4), DIMS(2, 1, 7, 4) },
      .attrs =
          &(const attention_attrs){
              .scale = 0.5, .temperature = 1, .causal = true, .offset = 2, .pooled_q = 2, .pooled_k = 3 } },
    { .in = { DIMS(2, 2, 5, 4), DIMS(2, 1, 7, 4), DIMS(2, 1, 7, 4) },
      .attrs = &(const attention_attrs){ .scale = 0.5, .temperature = 1 },
      .refused = HEED_ERR_SPEC },
    SAMPLE_END,
};

const op_def heed__op_attention_probe = {
    .name = "attention_probe",
    .version = 1,
    .in = attention_probe_in,
    .out = attention_probe_out,
    .attrs_size = sizeof(attention_attrs),
    .fields = heed__attention_fields,
    .infer = attention_probe_infer,
    .decompose = attention_probe_decompose,
    .cpu = heed__attention_probe_cpu,
    .flops = heed__attention_flops,
    .torch = "none: a shown weight leaves the fused path",
    .samples = attention_probe_samples,
};
