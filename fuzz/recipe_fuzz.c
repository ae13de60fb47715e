/* Any bytes as a recipe: refused with a sentence, or read; and what is shown of a recipe reads back the same. */

#include "memory_file.h"
#include "tasks/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static heed_status open_bytes(heed_recipe **out, heed_context *ctx, const void *data, size_t size,
                              heed_error *err)
{
    memory b = { data, size };
    const file_ops files = memory_files(&b);
    const file_ops *const before = ctx->files;
    heed_status st;

    ctx->files = &files;
    st = heed_recipe_open(out, ctx, "recipe.yaml", NULL, err);
    ctx->files = before;
    check(st == err->code && (st == HEED_OK) == (err->text[0] == 0));
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const heed_context_opts opts = { .threads = 1, .limits = { .memory_bytes = (uint64_t)32 << 20 } };
    heed_recipe *r = NULL, *again = NULL;
    heed_error err = { 0 };
    heed_context *ctx;
    char *shown = NULL;

    if (heed_context_new(&ctx, &opts, NULL) != HEED_OK)
        return 0;
    if (open_bytes(&r, ctx, data, size, &err) == HEED_OK && heed_recipe_print(&shown, r, &err) == HEED_OK) {
        check(open_bytes(&again, ctx, shown, strlen(shown), &err) == HEED_OK);
        check(again->architecture == r->architecture);
        check(heed__fields_equal(r->rows, r->values, again->values));
    }
    heed_text_free(ctx, shown);
    heed_recipe_free(again);
    heed_recipe_free(r);
    heed_context_free(ctx);
    return 0;
}
