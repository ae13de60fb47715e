/* The list of architectures, from models.def. */

#include "models/models.h"

#include <string.h>

#define MODEL(name) extern const heed_architecture heed__model_##name;
#include "models/models.def"
#undef MODEL

#define MODEL(name) &heed__model_##name,
const heed_architecture *const heed__architectures[] = {
#include "models/models.def"
    NULL,
};
#undef MODEL

const heed_architecture *heed__architecture(const char *name)
{
    for (const heed_architecture *const *a = heed__architectures; *a; a++)
        if (strcmp((*a)->name, name) == 0)
            return *a;
    return NULL;
}
