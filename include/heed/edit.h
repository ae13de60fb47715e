/* heed/edit.h: changing values inside a model, to see what they do.
 *
 * An edit names a value (a tap, or the weights of an attention) and says what becomes of it; whatever reads that value
 * then reads the edited one. Edits are applied to a graph before it is planned, so a graph without edits stays what it
 * is, bit by bit, and costs nothing.
 *
 *   heed_edit e = { .at = "encoder.1.attn", .kind = HEED_EDIT_ZERO, .head = HEED_EDIT_ONLY(3) };
 *   heed_model_edit(model, &e, 1, &err);          // runs of the model are edited from now on
 *
 * As text: PATH:SELECTION:KIND, "encoder.1.attn:head=3:zero"; heed_edits_open reads it. */
#ifndef HEED_EDIT_H
#define HEED_EDIT_H

#include <heed/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum heed_edit_kind {
    HEED_EDIT_ZERO = 0, /**< 0, also where the value is not finite */
    HEED_EDIT_SCALE,    /**< value times `number` */
    HEED_EDIT_SET,      /**< `number` */
    HEED_EDIT_ADD,      /**< value plus `number` */
    HEED_EDIT_TAKE,     /**< the elements of `tensor`: a record of another input, or of another run */
    HEED_EDIT_FACTOR,   /**< value times an input that the graph gets, so that one plan serves many edits: see `from` */
    HEED_EDIT_KINDS
} heed_edit_kind;

/** Heads, rows or keys: all when it is not on, else first to last, both counted from 0 and both in it. */
typedef struct heed_edit_range {
    bool on;
    int64_t first, last;
} heed_edit_range;
#define HEED_EDIT_ONLY(i) { true, (i), (i) }
#define HEED_EDIT_RANGE(from, to) { true, (from), (to) }

/** One edit. Pointers are borrowed during the call that takes it. */
typedef struct heed_edit {
    const char *at;      /**< a tap ("encoder.0.out"), or an attention by its tap or its scope ("encoder.1.attn.weights",
                              "encoder.1.attn"; "encoder.1.attn#2" for the second in one scope): its weights
                              [B,H,rows,keys] as they are reported and multiplied by v, before dropout; those of
                              differential attention after the difference, those of talking heads after the mixing, if
                              they are tapped */
    heed_edit_kind kind;
    heed_edit_range head, row, key; /**< axes 1, 2 and 3 of a value with four sizes, above all of weights: only what lies
                                         in all three is edited */
    double number;       /**< SCALE, SET, ADD; finite */
    heed_tensor tensor;  /**< TAKE: of the value's dtype; of its sizes, or with 1 in place of some, or what one sample
                              of a batch has. Copied into the graph */
    const char *from;    /**< TAKE: where the tensor is from, for people (may be NULL). FACTOR: the name of the input,
                              which has the value's dtype and a number for each head, [H], for a value with four
                              sizes, [1] for any other. Such inputs stand behind the graph's own, in the order of the
                              edits */
} heed_edit;

/** A new graph in which everything that reads the named values, its outputs and taps too, reads the edited ones. Edits of
 *  one value are applied in their order. Weights are not made to sum to one again: a head whose weights are zeroed gives
 *  zeros, a key that is zeroed leaves the others as they are (to mask a key and share its weight among the rest, a model
 *  has masks). Rows of k and v beyond the lengths stay unread, whatever weight they are given. An attention whose weights are edited is opened into products and a softmax of their own, so its numbers
 *  may differ from the closed one in the last bits, as kernels do, even by a factor of 1; other nodes stay. With n 0 the
 *  graph is a copy.
 *
 *  Edit before gradients are taken: HEED_ERR_SPEC for a graph that has them of the attention, and for a value that
 *  nothing reads, where an edit could change nothing. HEED_ERR_USAGE for a name that is not there, with the names that
 *  are, and for a head, row or key outside the sizes; HEED_ERR_DTYPE for values that are neither f32 nor f64;
 *  HEED_ERR_SHAPE for a tensor that does not fit; HEED_ERR_NUMERIC for a number that is not finite. */
HEED_MUST_CHECK HEED_API heed_status heed_graph_edit(heed_graph **out, const heed_graph *g, const heed_edit *edits, int n,
                                                     heed_error *err);

/** The edit as text, "encoder.1.attn:head=3:zero". Given back by heed_text_free. */
HEED_MUST_CHECK HEED_API heed_status heed_edit_print(char **out, heed_context *ctx, const heed_edit *e, heed_error *err);

#ifdef __cplusplus
}
#endif
#endif
