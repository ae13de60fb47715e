/* attention_probe in tiles: to come with the second pass of the level's kernels. */

#include "attention/kernel.h"

const op_kernel heed__attention_probe_cpu[] = { KERNEL_END };
