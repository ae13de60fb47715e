/* What this build was given and what it runs on: CMake writes the rows of heed_features.h. */
#include "base/fields.h"
#include "base/os/os.h"
#include "heed_features.h"

#include <string.h>

#define FEATURES_ROW(NAME, PRESENT, LIBRARY, PACKAGES, VERSION)                                              \
    { .name = NAME, .present = PRESENT, .library = LIBRARY, .packages = PACKAGES, .version = VERSION },

static const heed_feature features_table[] = {
    HEED_FEATURES(FEATURES_ROW) { 0 } /* the core has none */
};

const heed_feature *heed_features(void)
{
    return features_table;
}

bool heed_has_feature(const char *name)
{
    for (const heed_feature *f = features_table; f->name; f++)
        if (strcmp(f->name, name) == 0)
            return f->present;
    return false;
}

void heed_cpu_name(char name[96])
{
    heed__os_cpu_name(name);
}

const char *heed_nearest(const char *from, const char *const *words)
{
    return heed__nearest(from, words);
}
