/* Attention by itself, without a model: three queries, keys and values of width 1, the weights and their entropy beside the
 * result, and the gradient of its sum by the queries.
 *
 * A builder makes a graph, a plan decides how it is computed and in how much memory, a session runs it, as often as wanted. */
#include <heed/heed.h>
#include <stdio.h>

enum { T = 3 };

/* q, k, v [1,1,T,1] -> out, weights [1,1,T,T], entropy [1,1,T], dq */
static heed_status plan_new(heed_plan **plan, heed_context *ctx, heed_error *err)
{
    heed_builder *b = NULL;
    heed_graph *graph = NULL;
    heed_status st = heed_builder_new(&b, ctx, err);

    if (st)
        return st;
    const heed_type rows = HEED_TYPE(HEED_F32, 1, 1, T, 1);
    const heed_value q = heed_input(b, "q", rows), k = heed_input(b, "k", rows), v = heed_input(b, "v", rows);
    const heed_attended a = heed_attention(b, q, k, v, &(heed_attention_spec){ .probe.entropy = true });
    heed_value dq;

    heed_grad(b, heed_sum(b, a.out, HEED_ALL_AXES, HEED_DROP_AXES), &q, 1, &dq);
    heed_output(b, "out", a.out);
    heed_output(b, "weights", a.weights);
    heed_output(b, "entropy", a.entropy);
    heed_output(b, "dq", dq);
    st = heed_builder_finish(&graph, b,
                             err); /* all mistakes of the calls above are told here, the first one */
    if (!st)
        st = heed_plan_new(plan, ctx, graph, NULL, err);
    heed_graph_free(graph);
    heed_builder_free(b);
    return st;
}

int main(void)
{
    float q[T] = { 1, 2, 3 }, k[T] = { 4, 5, 6 }, v[T] = { 7, 8, 9 }, out[T], weights[T][T], entropy[T],
          dq[T];
    const heed_type rows = HEED_TYPE(HEED_F32, 1, 1, T, 1);
    const heed_tensor in[] = { { rows, q }, { rows, k }, { rows, v } };
    const heed_tensor results[] = { { rows, out },
                                    { HEED_TYPE(HEED_F32, 1, 1, T, T), weights },
                                    { HEED_TYPE(HEED_F32, 1, 1, T), entropy },
                                    { rows, dq } };
    heed_context *ctx = NULL;
    heed_plan *plan = NULL;
    heed_weights *none = NULL; /* this graph has no parameters */
    heed_session *session = NULL;
    heed_error err = { 0 };
    int id = 0;

    if (heed_context_new(&ctx, NULL, &err) || plan_new(&plan, ctx, &err) ||
        heed_weights_new(&none, ctx, &err) || heed_session_new(&session, ctx, none, NULL, &err) ||
        heed_session_add(session, plan, &id, &err) || heed_session_run(session, id, in, 3, results, 4, &err))
        goto done;
    for (int i = 0; i < T; i++)
        printf("q%d  out %.5f  weights %.5f %.5f %.5f  entropy %.4f  dq %.4f\n", i, out[i], weights[i][0],
               weights[i][1], weights[i][2], entropy[i], dq[i]);
done:
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    heed_session_free(session);
    heed_weights_free(none);
    heed_plan_free(plan);
    heed_context_free(ctx);
    return err.code != 0;
}
