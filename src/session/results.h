/* Inside a session, for models: whether a caller's memory will do for results that are computed where it wants them. */
#ifndef SESSION_RESULTS_H
#define SESSION_RESULTS_H

#include <heed/session.h>

/* True when memory for a result is missing, or overlaps that of an input or of another result. Inputs are the plan's. */
bool heed__results_need_copies(const heed_plan *p, const heed_tensor *inputs, int n_inputs,
                               const heed_tensor *outputs, int n_outputs);

#endif
