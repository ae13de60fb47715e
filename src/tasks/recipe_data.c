/* What a recipe says of its data, as the calls of heed/data.h want it. */

#include "tasks/recipe.h"

#include <string.h>

heed_status heed__recipe_words(const char *const **out, int64_t *n, heed_recipe *r, const char *words,
                               heed_error *err)
{
    const char *at = words ? words : "", **list;
    int64_t count = 0;
    size_t room = 1;

    for (const char *c = at; *c; c++)
        room += *c == ',';
    list = heed__arena_alloc(&r->arena, room + 1, sizeof *list);
    for (; list && *at; count++) {
        const size_t length = strcspn(at, ",");
        char *word = heed__arena_copy(&r->arena, at, length + 1);

        if (!word)
            return heed__fail_memory(err, length);
        word[length] = '\0';
        list[count] = word;
        at += length;
        at += strspn(at, ", ");
    }
    if (!list)
        return heed__fail_memory(err, room * sizeof *list);
    *out = list;
    *n = count;
    return HEED_OK;
}

heed_status heed__recipe_dataset(heed_dataset_opts *out, heed_recipe *r, heed_part part, heed_error *err)
{
    const recipe_data *d = &r->values->data;
    const char *const *classes = NULL;
    int64_t n;

    TRY(heed__recipe_words(&classes, &n, r, d->classes, err));
    *out = (heed_dataset_opts){ .kind = (heed_dataset_kind)d->kind,
                                .part = part,
                                .validation = d->validation,
                                .test = d->test,
                                .channels = heed__recipe_channels(r),
                                .fit = (heed_image_fit)d->fit,
                                .classes = n ? classes : NULL,
                                .skip_bad = d->skip_bad };
    heed__recipe_size(r, &out->height, &out->width);
    return HEED_OK;
}
