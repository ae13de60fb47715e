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

/* Walking several views of one shape together. Dimensions are merged where all views allow it; what is left is an outer
 * walk and one inner run of `inner` elements with a stride for each view. */
#define WALK_VIEWS 8
typedef struct walk {
    int views, rank;                            /* rank of the outer walk */
    int64_t outer, inner;                       /* number of runs, elements of a run */
    int64_t dims[HEED_MAX_RANK];
    int64_t strides[WALK_VIEWS][HEED_MAX_RANK]; /* bytes */
    int64_t step[WALK_VIEWS];                   /* elements inside a run */
    char *data[WALK_VIEWS];
} walk;

/* Prepares the walk; all views have the dims of v[0] (dtypes may differ). inner_rank: at least this many last dimensions stay inside
 * the run (1: merge as far as possible). */
void heed__walk(walk *w, int views, const view *const *v);

/* Cuts runs longer than `most` elements, so that there are enough of them to share: a run becomes several outer ones. */
void heed__walk_split(walk *w, int64_t most);

/* Pointers to the first element of run `index` for each view. */
void heed__walk_at(const walk *w, int64_t index, void *at[WALK_VIEWS]);

#endif
