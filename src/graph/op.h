/* What an op is. One op_def says everything: slots, attributes, shape rule, gradient, decomposition, kernels, ONNX name,
 * samples. The graph prints, verifies, differentiates and plans through this table and knows no op by name. */
#ifndef GRAPH_OP_H
#define GRAPH_OP_H

#include "base/fields.h"
#include "base/sizes.h"
#include "cpu/gemm.h"
#include "cpu/rows.h"
#include "graph/graph.h"
#include "graph/onnx.h"
#include <heed/graph.h>

#define OP_IN_MAX 64  /* but for OP_VARIADIC ops, whose inputs are as many as given */
#define OP_OUT_MAX 16
#define SCRATCH_AREAS 4

/* ---- slots ---- */
#define DTYPE_BIT(d) (1u << (d))
#define FLOATS (DTYPE_BIT(HEED_F32) | DTYPE_BIT(HEED_F64) | DTYPE_BIT(HEED_F16) | DTYPE_BIT(HEED_BF16))
#define INTS (DTYPE_BIT(HEED_I64) | DTYPE_BIT(HEED_I32) | DTYPE_BIT(HEED_U8))
#define BOOLS DTYPE_BIT(HEED_BOOL)
#define NUMBERS (FLOATS | INTS)
#define ANY_DTYPE (NUMBERS | BOOLS)
#define I64_ONLY DTYPE_BIT(HEED_I64)

enum slot_flags {
    OPTIONAL = 1,
    DIFFERENTIABLE = 2,
    MINUS_INFINITY = 4 /* of an output: -inf is an answer there (ln of an empty sum), no fault */
};

typedef struct op_slot {
    const char *name;
    unsigned dtypes;     /* DTYPE_BITs; 0 for outputs: what infer or same_as says */
    unsigned flags;
    const char *same_as; /* outputs: the type of that input. inputs: the dtype of that input */
    const char *over;    /* outputs: may overwrite that input, whose type is the same */
} op_slot;
#define SLOT_END { .name = NULL }

/* ---- building ---- */
typedef struct op_infer {
    const char *op;
    const void *attrs;
    const heed_type *in; /* an absent optional input has rank -1 */
    int n_in;
    heed_type *out;      /* to fill, unless same_as did */
    int n_out;
    const heed_graph *body;
    heed_error *err;
} op_infer;

/* Refuses: the text becomes "op: text" with the scope path. Returns code. */
heed_status heed__refuse(op_infer *t, heed_status code, const char *format, ...) HEED_PRINTF(3, 4);
static inline bool heed__given(const op_infer *t, int slot)
{
    return slot < t->n_in && t->in[slot].rank >= 0;
}

typedef struct op_grad {
    heed_builder *b;
    const void *attrs;
    const heed_value *in, *out;
    const heed_value *dout; /* {0} where no gradient arrives */
    heed_value *din;        /* to fill; {0}: none. Only those with need[i] are used */
    const bool *need;
    int n_in, n_out;
    const heed_graph *body;
} op_grad;

typedef struct op_decompose {
    heed_builder *b;
    const void *attrs;
    const heed_value *in;
    heed_value *out; /* to fill, every one that is wanted */
    const bool *want;
    int n_in, n_out;
} op_decompose;

/* ---- running ---- */
typedef struct op_fault op_fault;

/* What a kernel sees. `accepts` and the size functions see types, attributes and isa only: data is NULL, strides are not set. */
typedef struct op_call {
    const void *attrs;
    const view *in, *out; /* data NULL: absent input, unwanted output */
    int n_in, n_out;
    heed_isa isa;
    const row_ops *row;
    const gemm_ops *gemm;
    void *scratch[SCRATCH_AREAS]; /* of this thread: scratch() bytes each, aligned to 64 */
    void *shared;                 /* of this step: shared() bytes, written by prepare */
    void *partial;                /* run: this chunk's partial() bytes; finish: all chunks' one after another */
    int64_t partial_stride, chunks;
    op_fault *fault;
} op_call;

enum kernel_layout {
    DENSE,  /* every operand row-major without gaps */
    ROWS,   /* last axis dense */
    STRIDED /* anything, broadcast (stride 0) too */
};

/* run(c, begin, end) handles items [begin, end) of count(c). Chunks are `chunk` items long: a constant of the kernel, or
 * chunk_of(c), which sees types only, so that borders never depend on the number of threads. */
typedef struct op_kernel {
    const char *name;
    enum kernel_layout layout;
    int64_t chunk;
    bool (*accepts)(const op_call *c);          /* NULL: always */
    const char *(*refuses)(const op_call *c);   /* in place of accepts: NULL, or what it does not serve, as a clause */
    int64_t (*count)(const op_call *c);
    int64_t (*chunk_of)(const op_call *c);
    size_t (*scratch)(const op_call *c);
    size_t (*shared)(const op_call *c);
    int64_t (*prepare_count)(const op_call *c); /* prepare runs over its own items, one a chunk, before run */
    void (*prepare)(const op_call *c, int64_t begin, int64_t end);
    size_t (*partial)(const op_call *c); /* bytes a chunk for sums across chunks, zeroed before run */
    void (*run)(const op_call *c, int64_t begin, int64_t end);
    int64_t (*gather_count)(const op_call *c); /* gather runs over its own items, one a chunk, after run */
    void (*gather)(const op_call *c, int64_t begin, int64_t end);
    void (*finish)(const op_call *c);    /* after all chunks: adds partials in chunk order */
    uint64_t dense_in;                   /* bits of inputs that must be DENSE whatever `layout` says */
} op_kernel;
#define KERNEL_END { .name = NULL }

/* A bad value in data (an index out of range): the lowest item wins and the session returns it after the step. The op says
 * OP_FAULTS. */
void heed__fault(const op_call *c, int64_t item, heed_status code, int64_t value);
void heed__fault_number(const op_call *c, int64_t item, heed_status code, double value);

/* A view op aliases its input: from the input's strides, the output's, and how many elements further it begins. False: this layout
 * cannot be aliased and is copied first. */
typedef bool op_view_fn(const void *attrs, const view *in, view *out, int64_t *offset);

/* ---- samples: tests, benchmarks and documentation run over them ---- */
typedef enum sample_fill {
    FILL_NORMAL = 0,
    FILL_POSITIVE, /* 0.1 .. about 3 */
    FILL_INDEX,    /* integers below .n */
    FILL_LENGTHS,  /* integers 0 .. n */
    FILL_MASK,     /* bool, about 3 in 4 true */
    FILL_DISTINCT, /* well separated numbers, so that no tie or kink is near */
    FILL_UNIT,     /* open interval (-0.9, 0.9) */
    FILL_ALPHA,    /* 1.1 .. 2 */
    FILL_RNG,      /* {seed, step} of random ops */
    FILL_PROBABILITY /* rows along the last axis sum to one */
} sample_fill;

typedef struct sample_in {
    int32_t dims[HEED_MAX_RANK];
    int32_t n;
    int8_t rank; /* -1: absent */
    uint8_t dtype; /* heed_dtype; HEED_F32 means the float dtype under test */
    uint8_t fill;  /* sample_fill */
    bool given;
} sample_in;
#define DIMS(...) { .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ }, .given = true }
#define SCALAR() { .rank = 0, .given = true }
#define FILLED(f, ...) { .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ }, .fill = f, .given = true }
#define INDEX(below, ...) { .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ }, .dtype = HEED_I64, .fill = FILL_INDEX, .n = below, .given = true }
#define LENGTHS(most, ...) { .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ }, .dtype = HEED_I64, .fill = FILL_LENGTHS, .n = most, .given = true }
#define MASK(...) { .rank = (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), .dims = { __VA_ARGS__ }, .dtype = HEED_BOOL, .fill = FILL_MASK, .given = true }
#define ABSENT() { .rank = -1, .given = true }
#define RNG() { .rank = 1, .dims = { 2 }, .dtype = HEED_I64, .fill = FILL_RNG, .given = true }

#define SAMPLE_IN_END { .given = false }
#define SAMPLE_IN_MAX 12
typedef struct op_sample {
    sample_in in[SAMPLE_IN_MAX]; /* ends at the first that is not given */
    const sample_in *all;        /* in place of `in` where there are more; ends likewise */
    const void *attrs;
    double scale;        /* multiplies normal fills; 0: 1. Anything else skips numeric gradients */
    heed_status refused; /* the builder must refuse with this code */
    bool no_numeric;     /* has kinks where it is sampled: skip numeric gradients, and why stands in a comment */
} op_sample;
#define SAMPLE_END { .attrs = NULL }
static inline const sample_in *heed__sample_inputs(const op_sample *s)
{
    return s->all ? s->all : s->in;
}

/* ---- the table of an op ---- */
enum op_flags {
    OP_IN_PLACE = 1, /* output 0 may overwrite any dense input of the same type */
    OP_VIEW = 2,
    OP_VARIADIC = 4, /* the last input slot repeats */
    OP_RANDOM = 8,   /* has an rng input and a `node` attribute */
    OP_LEAF = 16,
    OP_NO_GRAD = 32, /* explicit: gradient is zero or has no meaning; nothing flows back */
    OP_EFFECT = 64,  /* kept though nobody uses its outputs */
    OP_STRETCHES = 128,      /* ONNX's op stretches its operands by NumPy's rule: no Expand is written in front of it */
    OP_STRETCHES_LEADING = 256, /* the same for all axes but the last two */
    OP_FAULTS = 512, /* its kernels call heed__fault: a run may end here, so no state may have changed before */
    OP_PATCHES = 1024 /* written over input 0 it moves no more bytes than input 1 has */
};

typedef struct op_onnx {
    const char *name; /* NULL: exported through the decomposition, or by .onnx_emit */
    int since;
} op_onnx;

typedef struct op_def {
    const char *name;
    int version;
    const op_slot *in, *out;
    unsigned flags;
    size_t attrs_size;
    const op_field *fields;
    heed_status (*infer)(op_infer *t);
    void (*grad)(op_grad *g);                /* NULL: decompose serves, or OP_NO_GRAD says so */
    void (*decompose)(op_decompose *d);      /* NULL: a primitive */
    op_view_fn *view;
    const op_kernel *cpu;                    /* first that accepts wins, the reference last */
    /* OP_FAULTS: the sentence of a fault, after the node's path, or the op's name. NULL: element and value are named. */
    void (*fault_text)(const void *attrs, int64_t item, double value, char *to, size_t size);
    /* May output 0 be written over a state before a step that can end the run? Then what it changes is read by nobody until another
     * state says so. NULL: no. */
    bool (*spare)(const void *attrs);
    double (*flops)(const op_call *c);       /* NULL: one for each element of output 0 */
    op_onnx onnx;
    bool (*onnx_accepts)(const onnx_emit *e); /* NULL: always */
    void (*onnx_emit)(onnx_emit *e);          /* NULL: one node of that name, operands in order, no attributes */
    const char *torch;                       /* the same in PyTorch, for documentation */
    const op_sample *samples;
} op_def;

/* ---- helpers for builders of ops ---- */

/* One node of one output; n inputs, {0} = absent. Type checks, infer, hash are done here. */
heed_value heed__node(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n);

/* A node of several outputs; out has room for all of them. Poison fills it on failure. */
void heed__nodes(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n, heed_value *out);

/* The same with a body: the graph that the node runs inside (scan). The node takes the body over, on failure too. */
void heed__nodes_with_body(heed_builder *b, const op_def *op, const void *attrs, const heed_value *in, int n,
                           heed_graph *body, heed_value *out);

/* Poisons the builder: the first call wins. Returns poison. */
heed_value heed__poison(heed_builder *b, heed_status code, const char *format, ...) HEED_PRINTF(3, 4);
bool heed__poisoned(const heed_builder *b);

/* axis with negative values counted from the end; an axis out of range poisons and gives 0. */
int heed__axis(heed_builder *b, heed_value x, int axis);

/* Full path of `name` in the current scope, in the builder's memory. */
const char *heed__scope_path(heed_builder *b, const char *name);

/* A state outside of the model's names: its path is "root." and that of `name` in the current scope ("kv_cache.decoder.length"). */
heed_value heed__state_under(heed_builder *b, const char *root, const char *name, heed_type type, const heed_init *init);

/* CRC-32C of the path of `name` in the current scope: the node number of a random op. */
int64_t heed__random_node(heed_builder *b, const char *name);

heed_context *heed__builder_context(heed_builder *b);

/* Generic parts of kernels. */
bool heed__computes_in_f32(const view *v);          /* f32, f16, bf16 */
int64_t heed__row_count(const op_call *c);          /* rows of output 0: product of all dims but the last */
size_t heed__row_scratch(const op_call *c);         /* for row->in and row->out of the widest operand */
bool heed__all_f32(const op_call *c);               /* every float operand is f32 */

/* OPT(opts, field, default): a member of an options struct that may be NULL, or the default where it is zero. */
#define OPT(opts, field, fallback) ((opts) && (opts)->field ? (opts)->field : (fallback))

/* All ops, ended by NULL: from ops.def and attention/ops.def (ops/registry.c). */
extern const op_def *const heed__ops[];
const op_def *heed__op_find(const char *name);

#endif
