/* One table of fields describes a struct: node attributes, attention JSON, recipes, --set, config.json,
 * command options, documentation and near-name messages are all read from such tables.
 *
 * A row is one member: its name, kind, place, range, choices, default and a sentence of documentation. */
#ifndef BASE_FIELDS_H
#define BASE_FIELDS_H

#include "base/heap.h"
#include "base/text.h"
#include "base/error.h"

#define FIELD_LIST_MAX 8

struct arena;

typedef enum field_kind {
    FIELD_END_ = 0,
    FIELD_INT_,      /* int */
    FIELD_I64_,      /* int64_t */
    FIELD_F32_,      /* float */
    FIELD_F64_,      /* double */
    FIELD_BOOL_,     /* bool */
    FIELD_ENUM_,     /* int; choices "a|b|c" number from 0 */
    FIELD_FLAGS_,    /* unsigned; choices "a,b,c" are bits from the lowest; written "a,c" */
    FIELD_STRING_,   /* const char *, owned by the arena given to the reader; NULL counts as "" */
    FIELD_I64S_,     /* field_i64s: a short list of numbers, e.g. the axes of a permute */
    FIELD_MAYBE_I64_, /* heed_maybe_i64; "none" when it is not set */
    FIELD_MAYBE_F32_, /* heed_maybe_f32 */
    FIELD_GROUP_     /* a nested struct with a table of its own */
} field_kind;

typedef struct field_i64s {
    int n;
    int64_t v[FIELD_LIST_MAX];
} field_i64s;

typedef struct op_field {
    const char *name;
    field_kind kind;
    size_t offset;
    double min, max;             /* numbers: range, both ends allowed; min == max == 0: any finite value */
    const char *choices;         /* ENUM, FLAGS */
    const char *fallback;        /* default as text; NULL: the zero of its kind */
    const char *doc;             /* one sentence, for help and documentation */
    const struct op_field *rows; /* GROUP */
} op_field;

typedef op_field field; /* outside of ops */

#define FIELD_(s, m, k) .name = #m, .kind = k, .offset = offsetof(s, m)
#define FIELD_INT(s, m) { FIELD_(s, m, FIELD_INT_) }
#define FIELD_I64(s, m) { FIELD_(s, m, FIELD_I64_) }
#define FIELD_F32(s, m) { FIELD_(s, m, FIELD_F32_) }
#define FIELD_F64(s, m) { FIELD_(s, m, FIELD_F64_) }
#define FIELD_BOOL(s, m) { FIELD_(s, m, FIELD_BOOL_) }
#define FIELD_STRING(s, m) { FIELD_(s, m, FIELD_STRING_) }
#define FIELD_I64S(s, m) { FIELD_(s, m, FIELD_I64S_) }
#define FIELD_ENUM(s, m, words) { FIELD_(s, m, FIELD_ENUM_), .choices = words }
#define FIELD_FLAGS(s, m, words) { FIELD_(s, m, FIELD_FLAGS_), .choices = words }
#define FIELD_MAYBE_I64(s, m) { FIELD_(s, m, FIELD_MAYBE_I64_) }
#define FIELD_MAYBE_F32(s, m) { FIELD_(s, m, FIELD_MAYBE_F32_) }
#define FIELD_GROUP(s, m, table) { FIELD_(s, m, FIELD_GROUP_), .rows = table }
#define FIELD_END { .kind = FIELD_END_ }

/* Sets every member to its default (strings are copied into the arena). */
heed_status heed__fields_default(const field *rows, void *object, struct arena *a, heed_error *err);

/* Reads `value` (a scalar as text: "3e-4", "true", "adamw", "1,2") into the member. The whole text must be
 * used; numbers are decimal, finite and in range: no hex, no leading + or 0. `path` names the member in
 * messages (NULL: the row's name): "train.lr: 12 is outside 0 to 10". HEED_ERR_LIMIT for a number out of
 * range, HEED_ERR_USAGE for anything else that is no such value; then the member is left as it was. */
heed_status heed__field_set(const field *row, void *object, const char *value, struct arena *a,
                            const char *path, heed_error *err);

/* The row of a dotted name ("train.lr"), and the object it lies in (*object is moved into nested groups).
 * NULL if there is none; then `nearest` (may be NULL, 64 bytes) holds the nearest valid name or "". */
const field *heed__field_find(const field *rows, const char *name, void **object, char nearest[64]);

/* Appends name=value for every member, in table order, separated by ", "; defaults are left out when
 * `brief`. Members of groups have dotted names; a string that holds more than letters, digits and _ . / -
 * is written as in JSON. */
void heed__fields_print(text *t, const field *rows, const void *object, bool brief);

/* One member's value as text, as heed__field_set reads it. */
void heed__field_print(text *t, const field *row, const void *object);

/* Values equal, member by member (numbers bit by bit); and a CRC-32C of them, the same for equal objects. */
bool heed__fields_equal(const field *rows, const void *a, const void *b);
uint32_t heed__fields_hash(const field *rows, const void *object, uint32_t crc);

/* The word of `words` (NULL-terminated) nearest to `text` by edit distance: at most 3 and half of its
 * letters; or NULL. */
const char *heed__nearest(const char *text, const char *const *words);

#endif
