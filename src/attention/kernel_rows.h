/* The rows kernels: whatever attention, attention_grad and attention_probe the tiles kernels do not serve, by whole rows of
 * weights. They stand behind the tiles in the lists of kernel_forward.c, kernel_backward.c and kernel_probe.c. */
#ifndef ATTENTION_KERNEL_ROWS_H
#define ATTENTION_KERNEL_ROWS_H

#include "attention/kernel.h"

const char *heed__rows_refuses(const op_call *c);

int64_t heed__rows_count(const op_call *c);
int64_t heed__rows_chunk(const op_call *c);
size_t heed__rows_scratch(const op_call *c);
void heed__rows_run(const op_call *c, int64_t begin, int64_t end);

const char *heed__rows_grad_refuses(const op_call *c);
int64_t heed__rows_grad_count(const op_call *c);
size_t heed__rows_grad_shared(const op_call *c);
size_t heed__rows_grad_scratch(const op_call *c);
size_t heed__rows_grad_partial(const op_call *c);
void heed__rows_grad_run(const op_call *c, int64_t begin, int64_t end);
int64_t heed__rows_grad_gather_count(const op_call *c);
void heed__rows_grad_gather(const op_call *c, int64_t begin, int64_t end);
void heed__rows_grad_finish(const op_call *c);

int64_t heed__rows_probe_count(const op_call *c);
void heed__rows_probe_run(const op_call *c, int64_t begin, int64_t end);

#define ROWS_KERNEL(what, bytes)                                                                             \
    .name = "rows", .layout = ROWS, .refuses = what, .shared = bytes,                                        \
    .prepare_count = heed__kernel_prepare_count, .prepare = heed__kernel_prepare
#define ROWS_FORWARD                                                                                         \
    {                                                                                                        \
        ROWS_KERNEL(heed__rows_refuses, heed__kernel_shared),                                                \
            .count = heed__rows_count, .chunk_of = heed__rows_chunk, .scratch = heed__rows_scratch,          \
            .run = heed__rows_run, .dense_in = KERNEL_DENSE                                                  \
    }
#define ROWS_BACKWARD                                                                                        \
    {                                                                                                        \
        ROWS_KERNEL(heed__rows_grad_refuses, heed__rows_grad_shared),                                        \
            .count = heed__rows_grad_count, .chunk = 1, .scratch = heed__rows_grad_scratch,                  \
            .partial = heed__rows_grad_partial, .run = heed__rows_grad_run,                                  \
            .gather_count = heed__rows_grad_gather_count, .gather = heed__rows_grad_gather,                  \
            .finish = heed__rows_grad_finish,                                                                \
            .dense_in = KERNEL_DENSE | KERNEL_BIT(AT_DLSE) | KERNEL_BIT(AT_DREL_SUMS)                        \
    }
#define ROWS_PROBE                                                                                           \
    {                                                                                                        \
        ROWS_KERNEL(heed__rows_refuses, heed__kernel_shared),                                                \
            .count = heed__rows_probe_count, .chunk = 1, .scratch = heed__rows_scratch,                      \
            .run = heed__rows_probe_run, .dense_in = KERNEL_DENSE                                            \
    }

#endif
