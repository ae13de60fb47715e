/* All ops in one list, from ops.def and, once that room has one, attention/ops.def. */

#include "ops/ops.h"

#include <string.h>

#define OP_IN(name, file) OP(name)

#if __has_include("attention/ops.def")
#define OP(name) extern const op_def heed__op_##name;
#include "attention/ops.def"
#undef OP
#endif

#define OP(name) &heed__op_##name,
const op_def *const heed__ops[] = {
#include "ops/ops.def"
#if __has_include("attention/ops.def")
#include "attention/ops.def"
#endif
    NULL,
};
#undef OP

const op_def *heed__op_find(const char *name)
{
    for (int i = 0; heed__ops[i]; i++)
        if (strcmp(heed__ops[i]->name, name) == 0)
            return heed__ops[i];
    return NULL;
}
