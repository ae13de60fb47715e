/* Packed matrix products and convolutions, one table per instruction level: pointers, sizes, strides, no
 * graph word.
 *
 * Row rule (what makes batch = alone and cached = full true): every element of C is one chain of
 * multiply-adds in rising k, cut at multiples of GEMM_KC (partial sums are added in rising order), whatever
 * M, N, the batch or the thread are. */
#ifndef CPU_GEMM_H
#define CPU_GEMM_H

#include <heed/base.h>

#define GEMM_KC 256

/* A matrix with any strides: element (i, j) = data[i * rs + j * cs]. */
typedef struct matrix {
    const float *data;
    int64_t rs, cs;
} matrix;

/* A two-dimensional convolution, NCHW; a one-dimensional one has height 1. Sizes as PyTorch names them. */
typedef struct conv_shape {
    int64_t batch, in_channels, out_channels, groups;
    int64_t in[2], out[2], kernel[2], stride[2], dilation[2];
    int64_t pad[2]; /* zeros before the first row / column; those after follow from the sizes */
} conv_shape;

typedef struct gemm_ops {
    int mr, nr; /* tile of the micro-kernel */

    /* B [K,N] in panels of nr columns. Panels are independent: [begin, end) of ceil(N / nr). */
    size_t (*packed_bytes)(int64_t k, int64_t n);
    void (*pack)(float *packed, matrix b, int64_t k, int64_t n, int64_t begin, int64_t end);

    /* Rows [begin, end) of C [M,N] = A [M,K] B (+ C when add). c and a point at row 0; c is row-major with
     * row stride ldc. scratch: scratch_bytes for packing A. B is read once for every 192 rows, so a chunk of
     * that many is best. */
    size_t (*scratch_bytes)(void);
    void (*rows)(float *c, int64_t ldc, matrix a, const float *packed, int64_t begin, int64_t end, int64_t n,
                 int64_t k, bool add, void *scratch);

    /* Convolution as GEMM without an im2col buffer in memory. One call serves the items [begin, end) of the
     * batch, all of their channels and pixels; the pointers are those of item 0.
     *   forward  y [B,O,Ho,Wo] from x [B,I,H,W] and w [O,I/g,Kh,Kw]; bias [O] is added last, NULL for none
     *   dx       x's gradient, every element of it
     *   dw       adds the share of these items to dw [O,I/g,Kh,Kw]
     * prepare packs the weights once for all calls. An element of y and of dx has the same bits in any call.
     * dw's chains run over items, then pixels, so its bits depend on begin and end: cut the batch into fixed
     * parts and add the parts in order. A call builds tables and, for dw, a transposed sum: a few items a
     * call are faster than one. */
    size_t (*conv_packed_bytes)(const conv_shape *s);
    size_t (*conv_scratch_bytes)(const conv_shape *s);
    void (*conv_prepare)(float *packed, const float *w, const conv_shape *s);
    void (*conv_forward)(float *y, const float *x, const float *packed, const float *bias,
                         const conv_shape *s, int64_t begin, int64_t end, void *scratch);
    size_t (*conv_dx_packed_bytes)(const conv_shape *s);
    void (*conv_dx_prepare)(float *packed, const float *w, const conv_shape *s);
    void (*conv_dx)(float *dx, const float *dy, const float *packed, const conv_shape *s, int64_t begin,
                    int64_t end, void *scratch);
    void (*conv_dw)(float *dw, const float *x, const float *dy, const conv_shape *s, int64_t begin,
                    int64_t end, void *scratch);
} gemm_ops;

/* The table of a level, NULL when it is not built in. */
const gemm_ops *heed__gemm_ops(heed_isa isa);

#endif
