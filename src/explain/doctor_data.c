/* Rules that look at inputs, labels and parts; no model is run.
 *
 * Overlap: the first 16 bytes of the SHA-256 of every validation picture are sorted; each training picture
 * and its mirror image is then looked for. Two digests that agree are taken for the same picture. */

#include "base/digest.h"
#include "base/sort.h"
#include "explain/doctor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- inputs ---- */

#define STD_LEAST 0.05
#define STD_MOST 20.0

/* Mean and deviation of channel c (axis 1 of pictures; else all numbers are one channel). */
static void channel_moments(const doctor *d, int64_t channels, int64_t c, double *mean, double *std)
{
    const int64_t plane = heed_type_count(&d->x.type) / (d->n * channels);
    double sum = 0, squares = 0, n = (double)(d->n * plane);

    for (int64_t i = 0; i < d->n; i++) {
        const float *p = (const float *)d->x.data + (i * channels + c) * plane;

        for (int64_t j = 0; j < plane; j++) {
            sum += (double)p[j];
            squares += (double)p[j] * (double)p[j];
        }
    }
    *mean = sum / n;
    *std = sqrt(fmax(0, squares / n - *mean * *mean));
}

heed_status heed__doctor_inputs(doctor *d)
{
    const int64_t channels = d->x.type.rank == 4 ? d->x.type.dims[1] : 1;

    if (!d->x.data || heed_type_count(&d->x.type) == 0)
        return HEED_OK;
    heed__doctor_looked(d, RULE_RAW_INPUTS);
    for (int64_t c = 0; c < channels; c++) {
        char place[64];
        double mean, std;

        channel_moments(d, channels, c, &mean, &std);
        if (fabs(mean) <= d->threshold[RULE_RAW_INPUTS] * std && std >= STD_LEAST && std <= STD_MOST)
            continue;
        (void)snprintf(place, sizeof place, "input channel %lld", (long long)c);
        TRY(heed__doctor_find(d, RULE_RAW_INPUTS, std > 0 ? fabs(mean) / std : INFINITY, place,
                              "its mean is %.4g, its standard deviation %.4g", mean, std));
    }
    return HEED_OK;
}

/* ---- labels ---- */

/* Samples a class must have on average before counting the shown ones says anything. */
#define SAMPLES_A_CLASS 20

static int64_t label_of(const doctor *d, int64_t i)
{
    if (!d->c->data)
        return ((const int64_t *)d->y.data)[i];
    return heed_dataset_label(d->c->data, d->c->train ? d->c->train[i] : i);
}

static heed_status say_classes(doctor *d, const int64_t *count, int64_t classes)
{
    int64_t most = 0, least = 0;
    char place[64];
    double ratio;

    for (int64_t c = 1; c < classes; c++) {
        most = count[c] > count[most] ? c : most;
        least = count[c] < count[least] ? c : least;
    }
    ratio = count[least] > 0 ? (double)count[most] / (double)count[least] : INFINITY;
    if (!(ratio > d->threshold[RULE_CLASS_IMBALANCE]))
        return HEED_OK;
    (void)snprintf(place, sizeof place, "class %lld", (long long)least);
    return heed__doctor_find(d, RULE_CLASS_IMBALANCE, ratio, place,
                             "it has %lld samples, class %lld has %lld, and the loss weighs them alike",
                             (long long)count[least], (long long)most, (long long)count[most]);
}

heed_status heed__doctor_classes(doctor *d)
{
    const int64_t n = d->c->data ? (d->c->train ? d->c->n_train : heed_dataset_count(d->c->data)) : d->y.data ? d->n : 0;
    int64_t classes = d->c->data ? heed_dataset_classes(d->c->data) : 0, *count;
    heed_status st;

    if (d->c->weighing == HEED_WEIGHS_CLASSES || (d->c->training && d->c->training->loss))
        return HEED_OK;
    for (int64_t i = 0; !d->c->data && i < n; i++)
        classes = i64_max(classes, label_of(d, i) + 1);
    if (classes < 2 || classes > (1 << 20) || (!d->c->data && n < SAMPLES_A_CLASS * classes))
        return HEED_OK;
    heed__doctor_looked(d, RULE_CLASS_IMBALANCE);
    count = heed__alloc(d->ctx->heap, (size_t)classes, sizeof *count);
    if (!count)
        return heed__fail_memory(d->err, (uint64_t)classes * sizeof *count);
    for (int64_t i = 0; i < n; i++)
        if (label_of(d, i) >= 0 && label_of(d, i) < classes)
            count[label_of(d, i)]++;
    st = say_classes(d, count, classes);
    heed__release(d->ctx->heap, count);
    return st;
}

/* ---- parts ---- */

#define KEY 16

typedef struct overlap {
    doctor *d;
    int64_t size, width; /* bytes of a picture, of a row of it */
    uint8_t *keys;       /* [n_validation][KEY], in the order of the part */
    uint8_t *mirrored;   /* room for one picture */
    uint32_t *order, *room;
    bool *seen; /* by place in the part */
} overlap;

static void picture_key(uint8_t key[KEY], const uint8_t *picture, int64_t size)
{
    uint8_t digest[32];
    sha256 s;

    heed__sha256_init(&s);
    heed__sha256_add(&s, picture, (size_t)size);
    heed__sha256_end(&s, digest);
    memcpy(key, digest, KEY);
}

static bool key_before(const void *items, uint32_t a, uint32_t b)
{
    const uint8_t *keys = items;

    return memcmp(keys + (size_t)a * KEY, keys + (size_t)b * KEY, KEY) < 0;
}

static const uint8_t *mirror(const overlap *o, const uint8_t *picture)
{
    for (int64_t i = 0; i < o->size; i += o->width)
        for (int64_t j = 0; j < o->width; j++)
            o->mirrored[i + j] = picture[i + o->width - 1 - j];
    return o->mirrored;
}

/* The first place in `order` whose key is not before this one. */
static int64_t find_key(const overlap *o, const uint8_t key[KEY])
{
    int64_t low = 0, high = o->d->c->n_validation;

    while (low < high) {
        const int64_t middle = low + (high - low) / 2;

        if (memcmp(o->keys + (size_t)o->order[middle] * KEY, key, KEY) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Marks the validation pictures that are this one; the number of the first, or -1. */
static int64_t mark(const overlap *o, const uint8_t *picture, int64_t *found)
{
    uint8_t key[KEY];
    int64_t first = -1;

    picture_key(key, picture, o->size);
    for (int64_t i = find_key(o, key); i < o->d->c->n_validation; i++) {
        const uint32_t at = o->order[i];

        if (memcmp(o->keys + (size_t)at * KEY, key, KEY) != 0)
            break;
        if (o->seen[at])
            continue;
        o->seen[at] = true;
        (*found)++;
        first = first < 0 ? o->d->c->validation[at] : first;
    }
    return first;
}

/* The end of its file's name where it has one. */
static const char *sample_name(char to[80], const heed_dataset *data, int64_t i)
{
    const char *source = heed_dataset_source(data, i);
    const size_t n = strlen(source);

    if (n > 0)
        (void)snprintf(to, 80, "%s", n < 80 ? source : source + n - 79);
    else
        (void)snprintf(to, 80, "sample %lld", (long long)i);
    return to;
}

static heed_status overlap_say(overlap *o)
{
    const heed_doctor_case *c = o->d->c;
    int64_t exact = 0, mirrored = 0, at = -1, like = -1;
    char place[192], one[80], two[80];
    double share;

    for (int64_t i = 0; i < c->n_validation; i++)
        picture_key(o->keys + i * KEY, heed_dataset_image(c->data, c->validation[i]), o->size);
    heed__sort(o->order, o->room, (uint32_t)c->n_validation, key_before, o->keys);
    for (int pass = 0; pass < 2; pass++) /* the same pictures first, so that they count as such */
        for (int64_t i = 0; i < c->n_train; i++) {
            const uint8_t *picture = heed_dataset_image(c->data, c->train[i]);
            const int64_t first =
                pass == 0 ? mark(o, picture, &exact) : mark(o, mirror(o, picture), &mirrored);

            if (first >= 0 && at < 0) {
                at = first;
                like = c->train[i];
            }
        }
    share = (double)(exact + mirrored) / (double)c->n_validation;
    if (!(share > o->d->threshold[RULE_OVERLAP]))
        return HEED_OK;
    (void)snprintf(place, sizeof place, "%s (validation) and %s (training)", sample_name(one, c->data, at),
                   sample_name(two, c->data, like));
    return heed__doctor_find(
        o->d, RULE_OVERLAP, share, place,
        "%lld of %lld validation pictures are in the training part, %lld more as mirror image",
        (long long)exact, (long long)c->n_validation, (long long)mirrored);
}

heed_status heed__doctor_overlap(doctor *d)
{
    const heed_doctor_case *c = d->c;
    heap *h = d->ctx->heap;
    overlap o = { .d = d };
    heed_type image;
    heed_status st;

    if (!c->data || !c->train || !c->validation || c->n_validation < 1 || c->n_validation > INT32_MAX)
        return HEED_OK;
    heed__doctor_looked(d, RULE_OVERLAP);
    image = heed_dataset_image_type(c->data);
    o.size = heed_type_count(&image);
    o.width = image.dims[image.rank - 1];
    if (o.size < 1)
        return HEED_OK;
    o.keys = heed__alloc(h, (size_t)c->n_validation, KEY);
    o.order = heed__alloc(h, (size_t)c->n_validation, sizeof *o.order);
    o.room = heed__alloc(h, (size_t)c->n_validation, sizeof *o.room);
    o.seen = heed__alloc(h, (size_t)c->n_validation, sizeof *o.seen);
    o.mirrored = heed__alloc(h, (size_t)o.size, 1);
    st = o.keys && o.order && o.room && o.seen && o.mirrored
             ? overlap_say(&o)
             : heed__fail_memory(d->err, (uint64_t)c->n_validation * KEY);
    heed__release(h, o.keys);
    heed__release(h, o.order);
    heed__release(h, o.room);
    heed__release(h, o.seen);
    heed__release(h, o.mirrored);
    return st;
}
