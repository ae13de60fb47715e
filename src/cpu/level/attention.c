/* The table of one level's attention kernels. */

#include "cpu/level/attention_level.h"

const attention_ops LEVEL_NAME(attention_ops) = {
    .forward_bytes = LEVEL_NAME(attention_forward_bytes),
    .backward_bytes = LEVEL_NAME(attention_backward_bytes),
    .forward = LEVEL_NAME(attention_forward),
    .probe_bytes = LEVEL_NAME(attention_probe_bytes),
    .probe = LEVEL_NAME(attention_probe),
    .deltas = LEVEL_NAME(attention_deltas),
    .backward = LEVEL_NAME(attention_backward),
    .rows_bytes = LEVEL_NAME(attention_rows_bytes),
    .rows_backward_bytes = LEVEL_NAME(attention_rows_backward_bytes),
    .rows_forward = LEVEL_NAME(attention_rows_forward),
    .rows_sums = LEVEL_NAME(attention_rows_sums),
    .rows_backward = LEVEL_NAME(attention_rows_backward),
    .linear_bytes = LEVEL_NAME(attention_linear_bytes),
    .linear_backward_bytes = LEVEL_NAME(attention_linear_backward_bytes),
    .linear_forward = LEVEL_NAME(attention_linear_forward),
    .linear_keys = LEVEL_NAME(attention_linear_keys),
    .linear_back_queries = LEVEL_NAME(attention_linear_back_queries),
    .linear_back_keys = LEVEL_NAME(attention_linear_back_keys),
};
