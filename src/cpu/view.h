/* A tensor as a kernel sees it: memory, type and strides. It knows no graph word. */
#ifndef CPU_VIEW_H
#define CPU_VIEW_H

#include <heed/tensor.h>

typedef struct view {
    void *data; /* NULL: an output nobody uses, or an absent optional input */
    heed_type type;
    int64_t strides[HEED_MAX_RANK]; /* in elements; 0 where a value is broadcast */
} view;

/* A dense row-major view. */
view heed__view(void *data, const heed_type *type);
bool heed__view_dense(const view *v);

/* Rows of a view: all axes but the last, flattened. A scalar is one row of one element. */
int64_t heed__view_rows(const view *v);
int64_t heed__view_row_length(const view *v);

/* True when all rows are equally spaced: row i begins i * *stride elements after v->data. */
bool heed__view_row_stride(const view *v, int64_t *stride);

/* at[i] = elements from v->data to row begin + i, for `count` rows. */
void heed__view_row_offsets(const view *v, int64_t begin, int64_t count, int64_t *at);

/* Walking several views of one shape together. Dimensions are merged where all views allow it (so broadcast
 * strides of 0 merge with 0); what is left is an outer walk and one inner run of `inner` elements with a step
 * for each view. Without elements there are no runs: outer = 0.
 *
 *   heed__walk(&w, 2, (const view *const[]){ &x, &y });
 *   heed__walk_split(&w, 4096);
 *   for (int64_t i = 0; i < w.outer; i++) {
 *       const int64_t n = heed__walk_at(&w, i, at);    elements of this run
 *       ...
 *   } */
#define WALK_VIEWS 8
typedef struct walk {
    int views, rank;       /* rank of the outer walk */
    int64_t outer, inner;  /* number of runs, elements of a run (the last piece: fewer) */
    int64_t whole, pieces; /* elements of a run before it was split, and its pieces */
    int64_t dims[HEED_MAX_RANK];
    int64_t strides[WALK_VIEWS][HEED_MAX_RANK]; /* bytes */
    int64_t step[WALK_VIEWS];                   /* elements from one to the next inside a run */
    int64_t step_bytes[WALK_VIEWS];
    char *data[WALK_VIEWS];
} walk;

/* Prepares the walk; all views have the dims of v[0] (dtypes may differ). */
void heed__walk(walk *w, int views, const view *const *v);

/* Cuts runs longer than `most` elements, so that there are enough of them to share: a run becomes several
 * outer ones. The last piece of a run may be shorter. Called at most once. */
void heed__walk_split(walk *w, int64_t most);

/* Pointers to the first element of run `index` for each view, in any order and from any thread. Returns the
 * elements of this run: w->inner, or fewer in the last piece of a split run. */
int64_t heed__walk_at(const walk *w, int64_t index, void *at[WALK_VIEWS]);

#endif
