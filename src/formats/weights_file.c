/* A store of weights as a safetensors file, and back.
 *
 * Saving refuses weights that are not finite, before the old file is touched. Loading compares all names and
 * types first and lists everything that does not fit in one sentence; then the file is read into a second
 * store, which the first takes over whole: a failure at any point leaves the weights as they were. */

#include "session/weights.h"
#include "base/error.h"
#include "base/text.h"
#include <heed/formats.h>

#include <inttypes.h>
#include <string.h>

/* ---- saving ---- */

/* The first element that is NaN or infinite, -1 if there is none: all bits of its exponent are set. */
static int64_t first_bad(const heed_tensor *t)
{
    static const uint64_t exponents[HEED_DTYPES] = {
        [HEED_F32] = 0x7f800000, [HEED_F64] = 0x7ff0000000000000, [HEED_F16] = 0x7c00, [HEED_BF16] = 0x7f80
    };
    const uint64_t exponent = exponents[t->type.dtype];
    const size_t size = heed_dtype_size(t->type.dtype);
    const int64_t n = exponent ? heed_type_count(&t->type) : 0;
    const uint8_t *at = t->data;

    for (int64_t i = 0; i < n; i++, at += size) {
        uint64_t bits = 0;

        memcpy(&bits, at, size);
        if ((bits & exponent) == exponent)
            return i;
    }
    return -1;
}

heed_status heed_weights_save(const heed_weights *w, heed_weights_part part, const char *path,
                              heed_error *err)
{
    heap *h = w->ctx->heap;
    heed_named_tensor *tensors;
    uint32_t *order = NULL, n = 0;
    heed_status st;

    TRY(heed__weights_sorted(w, part, &order, &n, err));
    tensors = heed__alloc(h, n, sizeof *tensors);
    if (!tensors) {
        st = heed__fail_memory(err, n * sizeof *tensors);
        goto done;
    }
    for (uint32_t i = 0; i < n; i++) {
        const weight *x = &w->list[order[i]];
        const int64_t bad = first_bad(&x->tensor);

        if (bad >= 0) {
            st = heed__fail_at(err, HEED_ERR_NUMERIC, path,
                               "weight \"%.100s\" is NaN or infinite at element %" PRId64
                               "; such weights are not saved, and the file is left as it was",
                               x->name, bad);
            goto done;
        }
        tensors[i] = (heed_named_tensor){ x->name, x->tensor };
    }
    STEP(heed_safetensors_write(w->ctx, path, tensors, (int64_t)n, NULL, 0, err));
done:
    heed__release(h, tensors);
    heed__release(h, order);
    return st;
}

/* ---- what does not fit ---- */

/* Names in a sentence: the first few, and how many more. */
typedef struct names {
    text shown;
    int64_t n, left_out;
} names;
#define NAMES_BYTES 120

static bool names_room(names *list)
{
    if (list->n++ > 0 && list->shown.size >= NAMES_BYTES) {
        list->left_out++;
        return false;
    }
    heed__text_add(&list->shown, list->n > 1 ? ", " : " ");
    return true;
}

static void add_name(names *list, const char *name)
{
    char shown[200];

    if (names_room(list))
        heed__text_add(&list->shown, "\"%s\"", heed__shown(shown, name, strlen(name)));
}

static void add_type(text *t, const char *dtype, const heed_type *type)
{
    heed__text_add(t, "%s [", dtype);
    for (int i = 0; i < type->rank; i++)
        heed__text_add(t, "%s%" PRId64, i ? "," : "", type->dims[i]);
    heed__text_add(t, "]");
}

static void add_mismatch(names *list, const char *name, const char *dtype, const heed_type *in_file,
                         const heed_type *here)
{
    char shown[200];

    if (!names_room(list))
        return;
    heed__text_add(&list->shown, "\"%s\" (", heed__shown(shown, name, strlen(name)));
    add_type(&list->shown, dtype, in_file);
    heed__text_add(&list->shown, " in the file, ");
    add_type(&list->shown, heed_dtype_name(here->dtype), here);
    heed__text_add(&list->shown, " here)");
}

static void add_list(text *sentence, const char *what, const names *list)
{
    if (!list->n)
        return;
    heed__text_add(sentence, "%s%s%s", sentence->size ? "; " : "", what, list->shown.data);
    if (list->left_out)
        heed__text_add(sentence, " and %" PRId64 " more", list->left_out);
}

typedef struct misfits {
    names missing, unexpected, mismatched;
    bool sizes; /* one of the mismatched differs in sizes, not only in dtype */
    text sentence;
} misfits;

static void misfits_init(misfits *m, heap *h)
{
    *m = (misfits){ .sizes = false };
    heed__text_init(&m->missing.shown, h, 0);
    heed__text_init(&m->unexpected.shown, h, 0);
    heed__text_init(&m->mismatched.shown, h, 0);
    heed__text_init(&m->sentence, h, 0);
}

static void misfits_release(misfits *m)
{
    heed__text_release(&m->missing.shown);
    heed__text_release(&m->unexpected.shown);
    heed__text_release(&m->mismatched.shown);
    heed__text_release(&m->sentence);
}

static heed_status misfits_status(misfits *m, const char *path, heed_error *err)
{
    const bool names_differ = m->missing.n > 0 || m->unexpected.n > 0;

    if (!names_differ && !m->mismatched.n)
        return HEED_OK;
    add_list(&m->sentence, "missing", &m->missing);
    add_list(&m->sentence, "unexpected", &m->unexpected);
    add_list(&m->sentence, "of another type", &m->mismatched);
    if (m->missing.shown.failed || m->unexpected.shown.failed || m->mismatched.shown.failed ||
        m->sentence.failed)
        return heed__fail_memory(err, 0);
    return heed__fail_at(err, names_differ || m->sizes ? HEED_ERR_SHAPE : HEED_ERR_DTYPE, path,
                         "the file does not fit these weights: %s; nothing was loaded", m->sentence.data);
}

static void compare(misfits *m, const heed_weights *w, heed_weights_part part, const heed_safetensors *f)
{
    int64_t expected = 0;

    for (uint32_t i = 0; i < w->n; i++) {
        const weight *x = &w->list[i];
        const int64_t at = heed_safetensors_find(f, x->name);
        const heed_type type = heed_safetensors_type(f, at);

        if (!heed__weights_in_part(x->name, part))
            continue;
        expected++;
        if (at < 0) {
            add_name(&m->missing, x->name);
        } else if (!heed_type_equal(&type, &x->tensor.type)) {
            heed_type same = type;

            add_mismatch(&m->mismatched, x->name, heed_safetensors_dtype(f, at), &type, &x->tensor.type);
            same.dtype = x->tensor.type.dtype;
            m->sizes = m->sizes || !heed_type_equal(&same, &x->tensor.type);
        }
    }
    for (int64_t i = 0; i < heed_safetensors_count(f); i++) {
        const char *name = heed_safetensors_name(f, i);

        if (!heed__weights_in_part(name, part) || (expected > 0 && heed_weights_find(w, name).type.rank < 0))
            add_name(&m->unexpected, name);
    }
}

/* ---- loading ---- */

static heed_status read_all(heed_weights *into, heed_safetensors *f, heed_error *err)
{
    for (int64_t i = 0; i < heed_safetensors_count(f); i++) {
        const char *name = heed_safetensors_name(f, i);
        const heed_type type = heed_safetensors_type(f, i);
        heed_tensor tensor;

        if (type.dtype == HEED_DTYPES)
            return heed_safetensors_read(f, i, NULL, err); /* says which dtype this is */
        TRY(heed__weights_add(into, name, &type, &tensor, err));
        TRY(heed_safetensors_read(f, i, tensor.data, err));
    }
    return HEED_OK;
}

/* Closes the file in any case. */
static heed_status load(heed_weights *w, heed_weights_part part, heed_safetensors *f, const char *path,
                        heed_error *err)
{
    heed_weights *staged = NULL;
    misfits m;
    heed_status st;

    misfits_init(&m, w->ctx->heap);
    compare(&m, w, part, f);
    STEP(misfits_status(&m, path, err));
    STEP(heed_weights_new(&staged, w->ctx, err));
    STEP(read_all(staged, f, err));
    STEP(heed__weights_take(w, staged, err));
    staged = NULL;
done:
    heed_weights_free(staged);
    misfits_release(&m);
    heed_safetensors_close(f);
    return st;
}

heed_status heed_weights_load(heed_weights *w, heed_weights_part part, const char *path, heed_error *err)
{
    heed_safetensors *f;

    TRY(heed_safetensors_open(&f, w->ctx, path, err));
    return load(w, part, f, path, err);
}

heed_status heed_weights_load_memory(heed_weights *w, heed_weights_part part, const void *bytes, size_t size,
                                     heed_error *err)
{
    heed_safetensors *f;

    TRY(heed_safetensors_open_memory(&f, w->ctx, bytes, size, err));
    return load(w, part, f, NULL, err);
}
