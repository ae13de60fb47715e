/* How an op becomes part of an ONNX file: what it may ask of the writer (formats/onnx_write.c) and what it
 * sees.
 *
 * An op whose ONNX counterpart takes the same operands and no attributes needs nothing of this: `.onnx = {
 * "Exp", 13 }`. Others give `.onnx_emit`, which writes one node or a few. A composite that `.onnx_accepts`
 * refuses, or whose counterpart came later than the opset asked for, is opened instead.
 *
 * The batch may be open: then its size is HEED_ONNX_BATCH in all types, and every size that is a multiple of
 * it is known only when the file is run. */
#ifndef GRAPH_ONNX_H
#define GRAPH_ONNX_H

#include <heed/tensor.h>

typedef struct onnx_attr {
    const char *name;
    enum { ONNX_INT_ = 1, ONNX_FLOAT_, ONNX_INTS_ } kind;
    int64_t i;
    double f;
    const int64_t *list;
    int n;
} onnx_attr;
#define ONNX_INT(name_, v) { .name = name_, .kind = ONNX_INT_, .i = (v) }
#define ONNX_FLOAT(name_, v) { .name = name_, .kind = ONNX_FLOAT_, .f = (v) }
#define ONNX_INTS(name_, v, count) { .name = name_, .kind = ONNX_INTS_, .list = (v), .n = (count) }
#define ONNX_END { .name = NULL }

typedef struct onnx_emit onnx_emit;

/* What the writer does. Names live as long as the writer; a failure sticks and gives "". */
typedef struct onnx_calls {
    /* One node. Names "" stand for absent operands and results nobody wants; attrs end with ONNX_END, NULL:
     * none. */
    void (*node)(onnx_emit *e, const char *op, const char *const *in, int n_in, const char *const *out,
                 int n_out, const onnx_attr *attrs);
    const char *(*fresh)(onnx_emit *e);                                 /* a new name for a value */
    const char *(*i64s)(onnx_emit *e, const int64_t *list, int64_t n);  /* constant i64 [n] */
    const char *(*counting)(onnx_emit *e, int64_t n);                   /* constant i64 [n]: 0, 1, 2, ... */
    const char *(*scalar)(onnx_emit *e, heed_dtype dtype, double value); /* constant of rank 0 */
    const char *(*shape)(onnx_emit *e, const heed_type *t);             /* i64 [rank]: the sizes when it runs */
    int64_t (*dtype)(heed_dtype dtype);                                 /* ONNX's number for it */
    bool (*open)(const onnx_emit *e, int64_t size);                     /* a size that is known only then */
    void (*refuse)(onnx_emit *e, const char *why);                      /* HEED_ERR_SPEC: "op: why" */
} onnx_calls;

struct onnx_emit {
    const char *name; /* op_def.onnx.name */
    const void *attrs;
    const heed_type *in, *out;          /* an absent input has rank -1 */
    const char *const *in_name;         /* "" absent. NULL in onnx_accepts */
    const char *const *out_name;        /* "" not wanted. NULL in onnx_accepts */
    const bool *want;                   /* by output */
    int n_in, n_out, opset;
    const onnx_calls *to;
    void *writer;
};

/* The op's one node with these attributes. */
static inline void heed__onnx_node(onnx_emit *e, const onnx_attr *attrs)
{
    e->to->node(e, e->name, e->in_name, e->n_in, e->out_name, e->n_out, attrs);
}

/* The op's one node with `more` operands behind input 0 and nothing else. */
static inline void heed__onnx_node_of(onnx_emit *e, const char *const *more, int n_more,
                                      const onnx_attr *attrs)
{
    const char *in[8] = { e->in_name[0] };

    for (int i = 0; i < n_more && i < 7; i++)
        in[1 + i] = more[i];
    e->to->node(e, e->name, in, 1 + n_more, e->out_name, e->n_out, attrs);
}

#endif
