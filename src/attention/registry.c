/* All ops in one list, from ops/ops.def and attention/ops.def. It stands here because this is the lowest
 * room that knows both. */

#include "ops/ops.h"

#include <string.h>

#define OP_IN(name, file) OP(name)

#define OP(name) extern const op_def heed__op_##name;
#include "attention/ops.def"
#undef OP

#define OP(name) &heed__op_##name,
const op_def *const heed__ops[] = {
#include "ops/ops.def"
#include "attention/ops.def"
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
