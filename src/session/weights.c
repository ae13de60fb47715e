/* The store of everything that outlives a plan. Tensors never move once made, so sessions may keep pointers to them. */

#include "session/weights.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/rng.h"
#include "base/sizes.h"
#include "graph/number.h"

#include <string.h>

heed_status heed_weights_new(heed_weights **out, heed_context *ctx, heed_error *err)
{
    heed_weights *w = heed__alloc(ctx->heap, 1, sizeof *w);

    if (!w)
        return heed__fail_memory(err, sizeof *w);
    w->ctx = ctx;
    w->references = 1;
    *out = w;
    return HEED_OK;
}

heed_weights *heed_weights_keep(heed_weights *w)
{
    w->references++;
    return w;
}

void heed_weights_free(heed_weights *w)
{
    heap *h;

    if (!w || --w->references > 0)
        return;
    h = w->ctx->heap;
    for (uint32_t i = 0; i < w->n; i++) {
        heed__release(h, w->list[i].name);
        heed__release(h, w->list[i].tensor.data);
    }
    heed__release(h, w->list);
    heed__release(h, w->index);
    heed__release(h, w);
}

int64_t heed_weights_count(const heed_weights *w)
{
    return (int64_t)w->n;
}

static heed_tensor no_tensor(void)
{
    return (heed_tensor){ { HEED_F32, -1, { 0 } }, NULL };
}

heed_tensor heed_weights_at(const heed_weights *w, int64_t i, const char **name)
{
    if (i < 0 || i >= (int64_t)w->n)
        return no_tensor();
    if (name)
        *name = w->list[i].name;
    return w->list[i].tensor;
}

static weight *find(const heed_weights *w, const char *name)
{
    uint32_t at;

    if (!w->index_room)
        return NULL;
    for (at = heed__crc32c_string(name) & (w->index_room - 1); w->index[at];
         at = (at + 1) & (w->index_room - 1))
        if (strcmp(w->list[w->index[at] - 1].name, name) == 0)
            return &w->list[w->index[at] - 1];
    return NULL;
}

heed_tensor heed_weights_find(const heed_weights *w, const char *name)
{
    const weight *found = find(w, name);

    return found ? found->tensor : no_tensor();
}

static void enter(heed_weights *w, uint32_t position)
{
    uint32_t at = heed__crc32c_string(w->list[position].name) & (w->index_room - 1);

    while (w->index[at])
        at = (at + 1) & (w->index_room - 1);
    w->index[at] = position + 1;
}

/* Room for `more` entries in list and index. */
static bool make_room(heed_weights *w, uint32_t more)
{
    heap *h = w->ctx->heap;

    if (w->n + more > w->room) {
        const uint32_t room = w->n + more > 2 * w->room + 32 ? w->n + more : 2 * w->room + 32;
        weight *list = heed__resize(h, w->list, room, sizeof *list);

        if (!list)
            return false;
        w->list = list;
        w->room = room;
    }
    if (2 * (w->n + more) > w->index_room) {
        uint32_t room = w->index_room ? w->index_room : 128, *index;

        while (2 * (w->n + more) > room)
            room *= 2;
        index = heed__alloc(h, room, sizeof *index);
        if (!index)
            return false;
        heed__release(h, w->index);
        w->index = index;
        w->index_room = room;
        for (uint32_t i = 0; i < w->n; i++)
            enter(w, i);
    }
    return true;
}

static heed_status add(heed_weights *w, const char *name, const heed_type *type, weight **out,
                       heed_error *err)
{
    heap *h = w->ctx->heap;
    const int64_t count = heed_type_count(type);
    weight made = { .tensor.type = *type };

    if (count < 0 || !heed_dtype_size(type->dtype))
        return heed__fail(err, HEED_ERR_SHAPE, "weight \"%.100s\": its type is not valid", name);
    made.name = heed__copy_string(h, name);
    made.tensor.data = heed__alloc(h, (size_t)count, heed_dtype_size(type->dtype));
    if (!made.name || !made.tensor.data || !make_room(w, 1)) {
        heed__release(h, made.name);
        heed__release(h, made.tensor.data);
        return heed__fail_memory(err, (uint64_t)count * heed_dtype_size(type->dtype));
    }
    w->list[w->n] = made;
    enter(w, w->n);
    *out = &w->list[w->n++];
    return HEED_OK;
}

static heed_status same_type(const weight *have, const heed_type *type, heed_error *err)
{
    if (have->tensor.type.dtype != type->dtype)
        return heed__fail_at(err, HEED_ERR_DTYPE, have->name,
                             "weight \"%.100s\" is %s in the store, %s was given", have->name,
                             heed_dtype_name(have->tensor.type.dtype), heed_dtype_name(type->dtype));
    if (!heed_type_equal(&have->tensor.type, type))
        return heed__fail_at(err, HEED_ERR_SHAPE, have->name,
                             "weight \"%.100s\" has other sizes in the store than those given", have->name);
    return HEED_OK;
}

heed_status heed_weights_put(heed_weights *w, const char *name, heed_tensor tensor, heed_error *err)
{
    weight *at;

    if (!name || !*name || (heed_type_count(&tensor.type) > 0 && !tensor.data))
        return heed__fail(err, HEED_ERR_USAGE, "weight \"%.100s\": its name or its data is missing",
                          name ? name : "");
    at = find(w, name);
    if (at)
        TRY(same_type(at, &tensor.type, err));
    else
        TRY(add(w, name, &tensor.type, &at, err));
    if (heed_type_count(&tensor.type) > 0)
        memcpy(at->tensor.data, tensor.data,
               (size_t)heed_type_count(&tensor.type) * heed_dtype_size(tensor.type.dtype));
    return HEED_OK;
}

heed_status heed__weights_add(heed_weights *w, const char *name, const heed_type *type, heed_tensor *out,
                              heed_error *err)
{
    weight *at = find(w, name);

    if (at)
        return heed__fail_at(err, HEED_ERR_EXISTS, name, "weight \"%.100s\" is there already", name);
    TRY(add(w, name, type, &at, err));
    *out = at->tensor;
    return HEED_OK;
}

heed_status heed__weights_take(heed_weights *w, heed_weights *from, heed_error *err)
{
    uint32_t fresh = 0;

    for (uint32_t i = 0; i < from->n; i++) {
        const weight *at = find(w, from->list[i].name);

        if (at)
            TRY(same_type(at, &from->list[i].tensor.type, err));
        else
            fresh++;
    }
    if (!make_room(w, fresh))
        return heed__fail_memory(err, fresh * sizeof *w->list);
    for (uint32_t i = 0; i < from->n; i++) { /* nothing can fail from here on */
        weight *source = &from->list[i];
        const weight *at = find(w, source->name);

        if (at) {
            memcpy(at->tensor.data, source->tensor.data,
                   (size_t)heed_type_count(&at->tensor.type) * heed_dtype_size(at->tensor.type.dtype));
            continue;
        }
        w->list[w->n] = *source;
        enter(w, w->n++);
        *source = (weight){ .name = NULL };
    }
    heed_weights_free(from);
    return HEED_OK;
}

/* ---- first values ---- */

/* sqrt in double of small positive numbers: correctly rounded everywhere. */
static double square_root(double x)
{
    return __builtin_sqrt(x);
}

typedef struct law {
    double a, b; /* uniform: [a, b). normal: mean a, deviation b. constant: a */
    enum { LAW_CONSTANT, LAW_UNIFORM, LAW_NORMAL } kind;
} law;

/* fan_in and fan_out as PyTorch counts them; what each kind of start means in numbers. */
static law law_of(const heed_init *init, const heed_type *type)
{
    double in = 1, out = type->rank > 0 ? (double)type->dims[0] : 1, field_size = 1;
    const double a = (double)init->a, b = (double)init->b;

    for (int i = 2; i < type->rank; i++)
        field_size *= (double)type->dims[i];
    in = (type->rank > 1 ? (double)type->dims[1] : out) * field_size;
    out *= field_size;
    in = in > 0 ? in : 1;
    {
        const double xavier = (a != 0 ? a : 1) * square_root(2 / (in + out > 0 ? in + out : 1));
        const double kaiming = (a != 0 ? a : square_root(2)) / square_root(in);
        const double root3 = square_root(3);
        const law laws[] = {
            [HEED_INIT_ZEROS] = { 0, 0, LAW_CONSTANT },
            [HEED_INIT_CONSTANT] = { a, 0, LAW_CONSTANT },
            [HEED_INIT_UNIFORM] = { a, b, LAW_UNIFORM },
            [HEED_INIT_NORMAL] = { a, b, LAW_NORMAL },
            [HEED_INIT_XAVIER_UNIFORM] = { -xavier * root3, xavier * root3, LAW_UNIFORM },
            [HEED_INIT_XAVIER_NORMAL] = { 0, xavier, LAW_NORMAL },
            [HEED_INIT_KAIMING_UNIFORM] = { -kaiming * root3, kaiming * root3, LAW_UNIFORM },
            [HEED_INIT_KAIMING_NORMAL] = { 0, kaiming, LAW_NORMAL },
        };
        return (size_t)init->kind < sizeof laws / sizeof *laws ? laws[init->kind] : laws[0];
    }
}

/* Element (row, column) = all axes but the last flattened, and the last. Normal numbers use word pairs: columns 2j and 2j+1 of
 * words 4(j/2) .., so a normal element takes two words of its own: quad = column / 2. */
static void start(heed_tensor *t, const heed_init *init, uint64_t seed, const char *path)
{
    const law l = law_of(init, &t->type);
    const int64_t count = heed_type_count(&t->type);
    const int64_t columns = t->type.rank > 0 ? i64_max(1, t->type.dims[t->type.rank - 1]) : 1;
    const rng r = heed__rng(seed, 0, path);
    uint32_t words[4];

    for (int64_t i = 0; i < count; i++) {
        const uint32_t row = (uint32_t)(i / columns), column = (uint32_t)(i % columns);
        double x = l.a;

        if (l.kind == LAW_UNIFORM) {
            x = l.a + (l.b - l.a) * (double)heed__unit(heed__rng_word(&r, row, column));
        } else if (l.kind == LAW_NORMAL) {
            heed__rng_quad(words, &r, row, column / 2);
            x = l.a + l.b * (double)heed__normal(words[2 * (column % 2)], words[2 * (column % 2) + 1]);
        }
        if (init->zero_row.set && t->type.rank > 0 &&
            i / i64_max(1, count / i64_max(1, t->type.dims[0])) == init->zero_row.value)
            x = 0;
        heed__number_put(t->type.dtype, t->data, i, x);
    }
}

heed_status heed__weights_ensure(heed_weights *w, const char *path, const leaf_attrs *leaf, uint64_t seed,
                                 heed_tensor *out, heed_error *err)
{
    weight *at = find(w, path);

    if (at) {
        TRY(same_type(at, &leaf->type, err));
    } else {
        TRY(add(w, path, &leaf->type, &at, err));
        start(&at->tensor, &leaf->init, seed, path);
        if (strcmp(path, "rng") == 0)
            *(int64_t *)at->tensor.data = (int64_t)seed;
    }
    *out = at->tensor;
    return HEED_OK;
}

heed_status heed_weights_init(heed_weights *w, const heed_graph *g, uint64_t seed, heed_error *err)
{
    heed_tensor made;

    for (uint32_t i = 0; i < g->n_nodes; i++)
        if (heed__is_leaf(&g->nodes[i], &heed__op_param) || heed__is_leaf(&g->nodes[i], &heed__op_state))
            TRY(heed__weights_ensure(w, g->nodes[i].path, g->nodes[i].attrs, seed, &made, err));
    return HEED_OK;
}

/* ---- parts and digests ---- */

bool heed_weights_in_model(const char *name)
{
    return strcmp(name, "rng") != 0 && strncmp(name, "optimizer.", 10) != 0 && strncmp(name, "ema.", 4) != 0 &&
           strncmp(name, "kv_cache.", 9) != 0;
}

bool heed__weights_in_part(const char *name, heed_weights_part part)
{
    return part == HEED_WEIGHTS_ALL || heed_weights_in_model(name) == (part == HEED_WEIGHTS_MODEL);
}

heed_status heed__weights_sorted(const heed_weights *w, heed_weights_part part, uint32_t **out, uint32_t *n,
                                 heed_error *err)
{
    uint32_t *order = heed__alloc(w->ctx->heap, (size_t)w->n + 1, sizeof *order), used = 0;

    if (!order)
        return heed__fail_memory(err, w->n * sizeof *order);
    for (uint32_t i = 0; i < w->n; i++) {
        uint32_t at;

        if (!heed__weights_in_part(w->list[i].name, part))
            continue;
        for (at = used++; at > 0 && strcmp(w->list[order[at - 1]].name, w->list[i].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    *out = order;
    *n = used;
    return HEED_OK;
}

heed_status heed_weights_sha256(const heed_weights *w, heed_weights_part part, char out[65], heed_error *err)
{
    uint32_t *order, n;
    uint8_t digest[32];
    sha256 s;

    TRY(heed__weights_sorted(w, part, &order, &n, err));
    heed__sha256_init(&s);
    for (uint32_t i = 0; i < n; i++) {
        const weight *x = &w->list[order[i]];

        heed__sha256_add(&s, x->name, strlen(x->name) + 1);
        heed__sha256_add(&s, heed_dtype_name(x->tensor.type.dtype),
                         strlen(heed_dtype_name(x->tensor.type.dtype)) + 1);
        heed__sha256_add(&s, x->tensor.type.dims, (size_t)x->tensor.type.rank * sizeof *x->tensor.type.dims);
        heed__sha256_add(&s, x->tensor.data,
                         (size_t)heed_type_count(&x->tensor.type) * heed_dtype_size(x->tensor.type.dtype));
    }
    heed__sha256_end(&s, digest);
    heed__hex(out, digest, sizeof digest);
    heed__release(w->ctx->heap, order);
    return HEED_OK;
}
