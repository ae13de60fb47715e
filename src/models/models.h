/* Architectures by name: what a recipe's model.name may say. One file each; models.def lists them. */
#ifndef MODELS_MODELS_H
#define MODELS_MODELS_H

#include "base/fields.h"
#include <heed/model.h>

typedef struct heed_architecture {
    const char *name, *doc;
    const field *fields; /* of its configuration; the one named "classes" is set from the data */
    size_t config_size;
    heed_build_fn *build; /* config: the configuration */
} heed_architecture;

/* All of them, ended by NULL; and the one of that name, or NULL. */
extern const heed_architecture *const heed__architectures[];
const heed_architecture *heed__architecture(const char *name);

#endif
