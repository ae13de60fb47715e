/* The functions that one level's table of attention kernels is made of; cpu/attention.h says what they do. */
#ifndef CPU_LEVEL_ATTENTION_LEVEL_H
#define CPU_LEVEL_ATTENTION_LEVEL_H

#include "cpu/attention.h"
#include "cpu/vec.h"

size_t LEVEL_NAME(attention_forward_bytes)(int64_t dk, int64_t dv);
size_t LEVEL_NAME(attention_probe_bytes)(int64_t dk, int64_t heads, int64_t keys, int64_t pooled_q);
void LEVEL_NAME(attention_probe)(const attention_head *heads, const attention_second *to, int64_t n_heads,
                                 float *mean, int64_t first, int64_t last, void *const scratch[4]);
size_t LEVEL_NAME(attention_backward_bytes)(int64_t dk, int64_t dv);
void LEVEL_NAME(attention_forward)(const attention_head *h, const attention_result *to, int64_t begin,
                                   int64_t end, void *const scratch[4]);
void LEVEL_NAME(attention_backward)(const attention_head *heads, const attention_upstream *upstream,
                                    int64_t group, const attention_part *part, float *dk, float *dv,
                                    void *const scratch[4]);
void LEVEL_NAME(attention_deltas)(const attention_head *h, const attention_upstream *u, int64_t begin,
                                  int64_t end);
size_t LEVEL_NAME(attention_rows_bytes)(int64_t dk, int64_t dv, int64_t tk);
size_t LEVEL_NAME(attention_rows_backward_bytes)(int64_t dk, int64_t dv, int64_t tk);
void LEVEL_NAME(attention_rows_forward)(const attention_head *h, const attention_result *to, int64_t begin,
                                        int64_t end, void *const scratch[4]);
void LEVEL_NAME(attention_rows_sums)(const attention_head *h, const attention_sums *to, int64_t begin,
                                     int64_t end, void *const scratch[4]);
void LEVEL_NAME(attention_rows_backward)(const attention_head *heads, const attention_upstream *upstream,
                                         int64_t group, int64_t begin, int64_t end, const attention_keys *to,
                                         void *const scratch[4]);
size_t LEVEL_NAME(attention_linear_bytes)(int64_t dk, int64_t dv);
size_t LEVEL_NAME(attention_linear_backward_bytes)(int64_t dk, int64_t dv);
void LEVEL_NAME(attention_linear_keys)(const attention_head *h, int64_t stretch, float *to,
                                       void *const scratch[4]);
void LEVEL_NAME(attention_linear_forward)(const attention_head *h, const attention_result *to,
                                          const attention_linear *l, int64_t begin, int64_t end,
                                          void *const scratch[4]);
void LEVEL_NAME(attention_linear_back_queries)(const attention_head *heads, const attention_upstream *upstream,
                                               int64_t group, const attention_linear *l, int64_t begin,
                                               int64_t end, void *const scratch[4]);
void LEVEL_NAME(attention_linear_back_keys)(const attention_head *heads, const attention_upstream *upstream,
                                            int64_t group, const attention_linear *l, float *dk, float *dv,
                                            int64_t begin, int64_t end, void *const scratch[4]);

#endif
