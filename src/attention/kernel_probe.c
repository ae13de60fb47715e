/* attention_probe by a second pass. */

#include "attention/kernel_rows.h"

const op_kernel heed__attention_probe_cpu[] = { ROWS_PROBE, KERNEL_END };
