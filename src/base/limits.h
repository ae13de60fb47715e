/* Default limits (docs/limits.md). Each is a field of heed_limits. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <heed/base.h>

/* The given limits with every zero replaced by its default. */
heed_limits heed__limits(const heed_limits *given);

#endif
