/* What this CPU can give at an instruction level, measured: the denominators of benchmarks. */
#ifndef CPU_PEAK_H
#define CPU_PEAK_H

#include <heed/base.h>

/* The loops of one level. */
typedef struct peak_ops {
    int flops;                                 /* of one round of multiply_add */
    float (*multiply_add)(int64_t rounds);     /* independent multiply-adds, registers only */
    float (*read)(const float *x, int64_t n);  /* reads n floats from eight streams */
} peak_ops;

/* The table of a level, NULL when it is not built in. */
const peak_ops *heed__peak_ops(heed_isa isa);

/* Multiply-add peak of one thread in GFLOP/s, the best of several short runs (about 10 ms in all); 0 when
 * this level is not available. Machines are shared: measure it in the run that uses it. */
double heed__peak_gflops(heed_isa isa);

/* Read bandwidth of one thread in GB/s over a block that was written before, the best of several passes. */
double heed__peak_read_gbs(heed_isa isa, const float *block, int64_t n);

#endif
