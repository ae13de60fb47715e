/* Fields: one row says how a member is read, printed, compared and hashed. One table of kinds holds these
 * functions, so that a new kind is a new row here.
 *
 *   number = -? ( 0 | [1-9] digits ) ( . digits )? ( [eE] [+-]? digits )?    integers end before the point */
#include "base/fields.h"
#include "base/arena.h"
#include "base/digest.h"
#include "base/os/os.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define FIELDS_NAME_MOST 64 /* names and words that are looked for or suggested are shorter */
#define FIELDS_EDITS_MOST 3
#define FIELDS_PATH_MOST 256

/* What reading one value needs. */
typedef struct fields_read {
    const field *row;
    arena *arena;
    const char *path;
    heed_error *err;
} fields_read;

static bool fields_digit(char c)
{
    return c >= '0' && c <= '9';
}

static size_t fields_digits(const char *s)
{
    size_t n = 0;

    while (fields_digit(s[n]))
        n++;
    return n;
}

/* The length of the integer that begins at s; 0 if none does. */
static size_t fields_integer_length(const char *s)
{
    const size_t sign = *s == '-';
    const size_t n = fields_digits(s + sign);

    return n == 0 || (n > 1 && s[sign] == '0') ? 0 : sign + n;
}

static size_t fields_number_length(const char *s)
{
    size_t n = fields_integer_length(s);

    if (n && s[n] == '.') {
        const size_t more = fields_digits(s + n + 1);
        n = more ? n + 1 + more : 0;
    }
    if (n && (s[n] == 'e' || s[n] == 'E')) {
        const size_t sign = s[n + 1] == '+' || s[n + 1] == '-';
        const size_t more = fields_digits(s + n + 1 + sign);
        n = more ? n + 1 + sign + more : 0;
    }
    return n;
}

static heed_status fields_bad(const fields_read *r, const char *value, const char *wanted)
{
    char shown[200];

    return heed__fail(r->err, HEED_ERR_USAGE, "%s: \"%s\" is no %s", r->path,
                      heed__shown(shown, value, strlen(value)), wanted);
}

static heed_status fields_outside(const fields_read *r, const char *value, size_t n, double min, double max)
{
    char shown[200], low[40], high[40];

    heed__os_print_number(low, sizeof low, 15, min);
    heed__os_print_number(high, sizeof high, 15, max);
    return heed__fail(r->err, HEED_ERR_LIMIT, "%s: %s is outside %s to %s", r->path,
                      heed__shown(shown, value, n), low, high);
}

static bool fields_ranged(const field *row)
{
    return row->min < 0 || row->min > 0 || row->max < 0 || row->max > 0;
}

/* An integer that takes the first n bytes of `value`, within the row's range and low .. high. "-0" is
 * none. */
static heed_status fields_i64(int64_t *out, const fields_read *r, const char *value, size_t n, int64_t low,
                              int64_t high)
{
    const bool negative = value[0] == '-';
    int64_t v = 0;
    bool fits = true;

    for (size_t i = negative; i < n && fits; i++) {
        const int digit = value[i] - '0';
        fits = !__builtin_mul_overflow(v, 10, &v) &&
               !__builtin_sub_overflow(v, digit, &v); /* negative holds more */
    }
    if (fits && !negative)
        fits = !__builtin_sub_overflow(0, v, &v);
    if (negative && v == 0 && fits)
        return fields_bad(r, value, "integer (write 0)");
    if (fits && fields_ranged(r->row))
        fits = (double)v >= r->row->min && (double)v <= r->row->max;
    if (!fits || v < low || v > high)
        return fields_ranged(r->row) ? fields_outside(r, value, n, r->row->min, r->row->max)
                                     : fields_outside(r, value, n, (double)low, (double)high);
    *out = v;
    return HEED_OK;
}

static heed_status fields_whole_i64(int64_t *out, const fields_read *r, const char *value, int64_t low,
                                    int64_t high)
{
    const size_t n = fields_integer_length(value);

    if (!n || value[n] != '\0')
        return fields_bad(r, value, "integer");
    return fields_i64(out, r, value, n, low, high);
}

static heed_status fields_f64(double *out, const fields_read *r, const char *value, double most)
{
    const size_t n = fields_number_length(value);
    double v;

    if (!n || value[n] != '\0')
        return fields_bad(r, value, "number");
    v = heed__os_read_number(value);
    if (fields_ranged(r->row) && !(v >= r->row->min && v <= r->row->max))
        return fields_outside(r, value, n, r->row->min, r->row->max);
    if (!(fabs(v) <= most))
        return fields_outside(r, value, n, -most, most);
    *out = v;
    return HEED_OK;
}

/* The number of the word `value` (n bytes) among words parted by `mark`; -1 if it is none. */
static int fields_word(const char *words, char mark, const char *value, size_t n)
{
    int at = 0;

    for (const char *w = words; w; at++) {
        const char *end = strchr(w, mark);
        const size_t length = end ? (size_t)(end - w) : strlen(w);

        if (n == length && memcmp(w, value, n) == 0)
            return at;
        w = end ? end + 1 : NULL;
    }
    return -1;
}

/* Appends word number `at`; false when there are fewer. */
static bool fields_word_print(text *t, const char *words, char mark, unsigned at)
{
    const char *w = words;
    const char *end;

    for (; at && w; at--) {
        w = strchr(w, mark);
        w = w ? w + 1 : NULL;
    }
    if (!w)
        return false;
    end = strchr(w, mark);
    heed__text_put(t, w, end ? (size_t)(end - w) : strlen(w));
    return true;
}

static heed_status fields_no_word(const fields_read *r, const char *value, size_t n)
{
    char shown[200];

    return heed__fail(r->err, HEED_ERR_USAGE, "%s: \"%s\" is none of %s", r->path,
                      heed__shown(shown, value, n), r->row->choices);
}

/* ---- one kind after the other: read, print, bytes (what equality and hash look at) ---- */

#define FIELDS_BYTES_MOST (8 * (FIELD_LIST_MAX + 1))

static size_t fields_put_u64(uint8_t *to, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(v >> (8 * i));
    return 8;
}

static size_t fields_put_f64(uint8_t *to, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    return fields_put_u64(to, bits);
}

static size_t fields_put_f32(uint8_t *to, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    return fields_put_u64(to, bits);
}

static heed_status fields_int_read(const fields_read *r, void *to, const char *value)
{
    int64_t v = 0;

    TRY(fields_whole_i64(&v, r, value, INT32_MIN, INT32_MAX));
    *(int *)to = (int)v;
    return HEED_OK;
}

static void fields_int_print(text *t, const field *row, const void *from)
{
    (void)row;
    heed__text_add(t, "%d", *(const int *)from);
}

static size_t fields_int_bytes(uint8_t *to, const void *from)
{
    return fields_put_u64(to, (uint64_t) * (const int *)from);
}

static heed_status fields_i64_read(const fields_read *r, void *to, const char *value)
{
    return fields_whole_i64(to, r, value, INT64_MIN, INT64_MAX);
}

static void fields_i64_print(text *t, const field *row, const void *from)
{
    (void)row;
    heed__text_add(t, "%" PRId64, *(const int64_t *)from);
}

static size_t fields_i64_bytes(uint8_t *to, const void *from)
{
    return fields_put_u64(to, (uint64_t) * (const int64_t *)from);
}

static heed_status fields_f32_read(const fields_read *r, void *to, const char *value)
{
    double v = 0;

    TRY(fields_f64(&v, r, value, FLT_MAX));
    *(float *)to = (float)v;
    return HEED_OK;
}

static void fields_f32_print(text *t, const field *row, const void *from)
{
    (void)row;
    heed__text_float(t, *(const float *)from);
}

static size_t fields_f32_bytes(uint8_t *to, const void *from)
{
    return fields_put_f32(to, *(const float *)from);
}

static heed_status fields_f64_read(const fields_read *r, void *to, const char *value)
{
    return fields_f64(to, r, value, DBL_MAX);
}

static void fields_f64_print(text *t, const field *row, const void *from)
{
    (void)row;
    heed__text_number(t, *(const double *)from);
}

static size_t fields_f64_bytes(uint8_t *to, const void *from)
{
    return fields_put_f64(to, *(const double *)from);
}

static heed_status fields_bool_read(const fields_read *r, void *to, const char *value)
{
    const int word = fields_word("false|true", '|', value, strlen(value));

    if (word < 0)
        return fields_bad(r, value, "truth value (true or false)");
    *(bool *)to = word == 1;
    return HEED_OK;
}

static void fields_bool_print(text *t, const field *row, const void *from)
{
    (void)row;
    heed__text_add(t, "%s", *(const bool *)from ? "true" : "false");
}

static size_t fields_bool_bytes(uint8_t *to, const void *from)
{
    to[0] = *(const bool *)from;
    return 1;
}

static heed_status fields_enum_read(const fields_read *r, void *to, const char *value)
{
    const size_t n = strlen(value);
    const int word = fields_word(r->row->choices, '|', value, n);

    if (word < 0)
        return fields_no_word(r, value, n);
    *(int *)to = word;
    return HEED_OK;
}

static void fields_enum_print(text *t, const field *row, const void *from)
{
    const int v = *(const int *)from;

    if (v < 0 || !fields_word_print(t, row->choices, '|', (unsigned)v))
        heed__text_add(t, "%d", v); /* not a value of the table: shown as it is */
}

static heed_status fields_flags_read(const fields_read *r, void *to, const char *value)
{
    unsigned bits = 0;

    for (const char *v = *value ? value : NULL; v;) {
        const char *end = strchr(v, ',');
        const size_t n = end ? (size_t)(end - v) : strlen(v);
        const int word = fields_word(r->row->choices, ',', v, n);

        if (word < 0)
            return fields_no_word(r, v, n);
        if (bits >> word & 1)
            return fields_bad(r, value, "list without repetition");
        bits |= 1u << word;
        v = end ? end + 1 : NULL;
    }
    *(unsigned *)to = bits;
    return HEED_OK;
}

static void fields_flags_print(text *t, const field *row, const void *from)
{
    const unsigned bits = *(const unsigned *)from;
    const char *mark = "";

    for (unsigned i = 0; i < 32; i++) {
        if (!(bits >> i & 1))
            continue;
        heed__text_add(t, "%s", mark);
        if (!fields_word_print(t, row->choices, ',', i))
            heed__text_add(t, "%u", i);
        mark = ",";
    }
}

static size_t fields_flags_bytes(uint8_t *to, const void *from)
{
    return fields_put_u64(to, *(const unsigned *)from);
}

static heed_status fields_string_read(const fields_read *r, void *to, const char *value)
{
    char *copy = heed__arena_string(r->arena, value);

    if (!copy)
        return heed__fail_memory(r->err, strlen(value) + 1);
    *(const char **)to = copy;
    return HEED_OK;
}

static void fields_string_print(text *t, const field *row, const void *from)
{
    const char *s = *(const char *const *)from;

    (void)row;
    if (s)
        heed__text_put(t, s, strlen(s));
}

static heed_status fields_i64s_read(const fields_read *r, void *to, const char *value)
{
    field_i64s list = { 0 };

    for (const char *v = *value ? value : NULL; v;) {
        const size_t n = fields_integer_length(v);

        if (!n || (v[n] != ',' && v[n] != '\0'))
            return fields_bad(r, value, "list of integers (1,2,3)");
        if (list.n == FIELD_LIST_MAX)
            return heed__fail(r->err, HEED_ERR_LIMIT, "%s: more than %d numbers", r->path, FIELD_LIST_MAX);
        TRY(fields_i64(&list.v[list.n++], r, v, n, INT64_MIN, INT64_MAX));
        v = v[n] ? v + n + 1 : NULL;
    }
    *(field_i64s *)to = list;
    return HEED_OK;
}

static void fields_i64s_print(text *t, const field *row, const void *from)
{
    const field_i64s *list = from;

    (void)row;
    for (int i = 0; i < list->n && i < FIELD_LIST_MAX; i++)
        heed__text_add(t, "%s%" PRId64, i ? "," : "", list->v[i]);
}

static size_t fields_i64s_bytes(uint8_t *to, const void *from)
{
    const field_i64s *list = from;
    size_t n = fields_put_u64(to, (uint64_t)list->n);

    for (int i = 0; i < list->n && i < FIELD_LIST_MAX; i++)
        n += fields_put_u64(to + n, (uint64_t)list->v[i]);
    return n;
}

static heed_status fields_maybe_i64_read(const fields_read *r, void *to, const char *value)
{
    heed_maybe_i64 v = { 0 };

    if (strcmp(value, "none") != 0) {
        TRY(fields_i64_read(r, &v.value, value));
        v.set = true;
    }
    *(heed_maybe_i64 *)to = v;
    return HEED_OK;
}

static void fields_maybe_i64_print(text *t, const field *row, const void *from)
{
    const heed_maybe_i64 *v = from;

    if (v->set)
        fields_i64_print(t, row, &v->value);
    else
        heed__text_put(t, "none", 4);
}

static size_t fields_maybe_i64_bytes(uint8_t *to, const void *from)
{
    const heed_maybe_i64 *v = from;

    to[0] = v->set;
    return 1 + (v->set ? fields_i64_bytes(to + 1, &v->value) : 0);
}

static heed_status fields_maybe_f32_read(const fields_read *r, void *to, const char *value)
{
    heed_maybe_f32 v = { 0 };

    if (strcmp(value, "none") != 0) {
        TRY(fields_f32_read(r, &v.value, value));
        v.set = true;
    }
    *(heed_maybe_f32 *)to = v;
    return HEED_OK;
}

static void fields_maybe_f32_print(text *t, const field *row, const void *from)
{
    const heed_maybe_f32 *v = from;

    if (v->set)
        fields_f32_print(t, row, &v->value);
    else
        heed__text_put(t, "none", 4);
}

static size_t fields_maybe_f32_bytes(uint8_t *to, const void *from)
{
    const heed_maybe_f32 *v = from;

    to[0] = v->set;
    return 1 + (v->set ? fields_f32_bytes(to + 1, &v->value) : 0);
}

static const struct {
    size_t size; /* of the member */
    heed_status (*read)(const fields_read *r, void *to, const char *value);
    void (*print)(text *t, const field *row, const void *from);
    size_t (*bytes)(uint8_t *to, const void *from); /* NULL: a string, which has no bound */
} fields_kinds[] = {
    [FIELD_INT_] = { sizeof(int), fields_int_read, fields_int_print, fields_int_bytes },
    [FIELD_I64_] = { sizeof(int64_t), fields_i64_read, fields_i64_print, fields_i64_bytes },
    [FIELD_F32_] = { sizeof(float), fields_f32_read, fields_f32_print, fields_f32_bytes },
    [FIELD_F64_] = { sizeof(double), fields_f64_read, fields_f64_print, fields_f64_bytes },
    [FIELD_BOOL_] = { sizeof(bool), fields_bool_read, fields_bool_print, fields_bool_bytes },
    [FIELD_ENUM_] = { sizeof(int), fields_enum_read, fields_enum_print, fields_int_bytes },
    [FIELD_FLAGS_] = { sizeof(unsigned), fields_flags_read, fields_flags_print, fields_flags_bytes },
    [FIELD_STRING_] = { sizeof(const char *), fields_string_read, fields_string_print, NULL },
    [FIELD_I64S_] = { sizeof(field_i64s), fields_i64s_read, fields_i64s_print, fields_i64s_bytes },
    [FIELD_MAYBE_I64_] = { sizeof(heed_maybe_i64), fields_maybe_i64_read, fields_maybe_i64_print,
                           fields_maybe_i64_bytes },
    [FIELD_MAYBE_F32_] = { sizeof(heed_maybe_f32), fields_maybe_f32_read, fields_maybe_f32_print,
                           fields_maybe_f32_bytes },
};

static void *fields_member(const field *row, void *object)
{
    return (uint8_t *)object + row->offset;
}

static const void *fields_member_const(const field *row, const void *object)
{
    return (const uint8_t *)object + row->offset;
}

heed_status heed__field_set(const field *row, void *object, const char *value, struct arena *a,
                            const char *path, heed_error *err)
{
    const fields_read r = { .row = row, .arena = a, .path = path ? path : row->name, .err = err };

    if (row->kind == FIELD_GROUP_)
        return heed__fail(err, HEED_ERR_USAGE, "%s: this is a group; set one of its members, %s.%s", r.path,
                          r.path, row->rows->name ? row->rows->name : "...");
    return fields_kinds[row->kind].read(&r, fields_member(row, object), value);
}

/* Tables nest as deeply as they are written in the source: recursion over them is bounded. */
heed_status heed__fields_default(const field *rows, void *object, struct arena *a, heed_error *err)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        if (row->kind == FIELD_GROUP_)
            TRY(heed__fields_default(row->rows, fields_member(row, object), a, err));
        else if (row->fallback)
            TRY(heed__field_set(row, object, row->fallback, a, NULL, err));
        else
            memset(fields_member(row, object), 0, fields_kinds[row->kind].size);
    }
    return HEED_OK;
}

void heed__field_print(text *t, const field *row, const void *object)
{
    if (row->kind != FIELD_GROUP_)
        fields_kinds[row->kind].print(t, row, fields_member_const(row, object));
}

static const char *fields_string(const field *row, const void *object)
{
    const char *s = *(const char *const *)fields_member_const(row, object);

    return s ? s : "";
}

static bool fields_same(const field *row, const void *a, const field *row_b, const void *b)
{
    uint8_t of_a[FIELDS_BYTES_MOST], of_b[FIELDS_BYTES_MOST];
    size_t n;

    if (!fields_kinds[row->kind].bytes)
        return strcmp(fields_string(row, a), fields_string(row_b, b)) == 0;
    n = fields_kinds[row->kind].bytes(of_a, fields_member_const(row, a));
    return n == fields_kinds[row->kind].bytes(of_b, fields_member_const(row_b, b)) &&
           memcmp(of_a, of_b, n) == 0;
}

static bool fields_is_default(const field *row, const void *object)
{
    union {
        field_i64s list;
        int64_t number;
        heed_maybe_i64 maybe;
        const char *string;
    } room;
    field alone = *row;

    memset(&room, 0, sizeof room);
    alone.offset = 0;
    if (row->kind == FIELD_STRING_)
        room.string = row->fallback;
    else if (row->fallback && heed__field_set(&alone, &room, row->fallback, NULL, NULL, NULL) != HEED_OK)
        return false; /* the table's default is no value: a test of the tables finds it */
    return fields_same(row, object, &alone, &room);
}

static bool fields_plain(const char *s)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";

    return *s && s[strspn(s, plain)] == '\0';
}

/* One level of a dotted name, linked to the level above. */
typedef struct fields_level {
    const struct fields_level *above;
    const char *name;
} fields_level;

static void fields_level_print(text *t, const fields_level *l)
{
    if (!l)
        return;
    fields_level_print(t, l->above);
    heed__text_add(t, "%s.", l->name);
}

static void fields_print_level(text *t, const fields_level *above, const field *rows, const void *object,
                               bool brief, bool *first)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        if (row->kind == FIELD_GROUP_) {
            const fields_level here = { above, row->name };
            fields_print_level(t, &here, row->rows, fields_member_const(row, object), brief, first);
            continue;
        }
        if (brief && fields_is_default(row, object))
            continue;
        heed__text_add(t, "%s", *first ? "" : ", ");
        *first = false;
        fields_level_print(t, above);
        heed__text_add(t, "%s=", row->name);
        if (row->kind == FIELD_STRING_ && !fields_plain(fields_string(row, object)))
            heed__text_json(t, fields_string(row, object), strlen(fields_string(row, object)));
        else
            heed__field_print(t, row, object);
    }
}

void heed__fields_print(text *t, const field *rows, const void *object, bool brief)
{
    bool first = true;

    fields_print_level(t, NULL, rows, object, brief, &first);
}

bool heed__fields_equal(const field *rows, const void *a, const void *b)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        if (row->kind == FIELD_GROUP_
                ? !heed__fields_equal(row->rows, fields_member_const(row, a), fields_member_const(row, b))
                : !fields_same(row, a, row, b))
            return false;
    }
    return true;
}

uint32_t heed__fields_hash(const field *rows, const void *object, uint32_t crc)
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        uint8_t bytes[FIELDS_BYTES_MOST];

        if (row->kind == FIELD_GROUP_) {
            crc = heed__fields_hash(row->rows, fields_member_const(row, object), crc);
        } else if (!fields_kinds[row->kind].bytes) {
            const char *s = fields_string(row, object);
            crc = heed__crc32c(crc, s, strlen(s) + 1); /* with its end, so that borders count */
        } else {
            crc = heed__crc32c(crc, bytes,
                               fields_kinds[row->kind].bytes(bytes, fields_member_const(row, object)));
        }
    }
    return crc;
}

/* ---- near names ---- */

/* Edit distance (insert, delete, replace; Levenshtein 1966), row by row; a large number for long words. */
static size_t fields_distance(const char *a, const char *b)
{
    const size_t na = strlen(a), nb = strlen(b);
    size_t row[FIELDS_NAME_MOST];

    if (na >= FIELDS_NAME_MOST || nb >= FIELDS_NAME_MOST)
        return SIZE_MAX;
    for (size_t j = 0; j <= nb; j++)
        row[j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t diagonal = row[0]; /* distance of i-1 and j-1 letters */

        row[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
            const size_t one_less = row[j] < row[j - 1] ? row[j] : row[j - 1];

            diagonal = row[j];
            row[j] = replaced < one_less + 1 ? replaced : one_less + 1;
        }
    }
    return row[nb];
}

/* Is `distance` near enough to suggest the word, and nearer than the best so far? Half of what was written, and something of the
 * word, must stay: --bogus is no --out. Dashes before an option are no letters. */
static bool fields_nearer(const char *from, const char *word, size_t distance, size_t best)
{
    const size_t letters = strlen(from) - strspn(from, "-");

    return distance <= FIELDS_EDITS_MOST && distance < letters && distance <= (letters + 1) / 2 &&
           distance < strlen(word) - strspn(word, "-") && distance < best;
}

const char *heed__nearest(const char *from, const char *const *words)
{
    const char *found = NULL;
    size_t best = SIZE_MAX;

    for (; *words; words++) {
        const size_t distance = fields_distance(from, *words);

        if (fields_nearer(from, *words, distance, best)) {
            best = distance;
            found = *words;
        }
    }
    return found;
}

/* Appends `name` to the path of `used` bytes; 0 when it does not fit. */
static size_t fields_extend(char path[FIELDS_PATH_MOST], size_t used, const char *name)
{
    const size_t dot = used > 0, n = strlen(name);

    if (used + dot + n >= FIELDS_PATH_MOST)
        return 0;
    if (dot)
        path[used] = '.';
    memcpy(path + used + dot, name, n + 1);
    return used + dot + n;
}

/* The best name below `rows`: near as a whole, or the leaf of a nested name, which is easily written
 * without its group. */
static void fields_nearest_level(const field *rows, const char *name, char path[FIELDS_PATH_MOST],
                                 size_t used, size_t *best, char nearest[FIELDS_NAME_MOST])
{
    for (const field *row = rows; row->kind != FIELD_END_; row++) {
        const size_t n = fields_extend(path, used, row->name);
        size_t distance;

        if (!n)
            continue;
        if (row->kind == FIELD_GROUP_) {
            fields_nearest_level(row->rows, name, path, n, best, nearest);
            continue;
        }
        distance = fields_distance(name, path);
        if (used && strcmp(name, row->name) == 0)
            distance = 1;
        if (n < FIELDS_NAME_MOST && fields_nearer(name, path, distance, *best)) {
            *best = distance;
            memcpy(nearest, path, n + 1);
        }
    }
}

const field *heed__field_find(const field *rows, const char *name, void **object, char nearest[64])
{
    const field *level = rows;
    const char *from = name;
    void *place = *object;

    if (nearest)
        nearest[0] = '\0';
    for (;;) {
        const char *dot = strchr(from, '.');
        const size_t n = dot ? (size_t)(dot - from) : strlen(from);
        const field *row = level;

        while (row->kind != FIELD_END_ && (strlen(row->name) != n || memcmp(row->name, from, n) != 0))
            row++;
        if (row->kind != FIELD_END_ && !dot) {
            *object = place;
            return row;
        }
        if (row->kind != FIELD_GROUP_)
            break;
        place = place ? fields_member(row, place) : NULL;
        level = row->rows;
        from = dot + 1;
    }
    if (nearest) {
        char path[FIELDS_PATH_MOST] = "";
        size_t best = SIZE_MAX;

        fields_nearest_level(rows, name, path, 0, &best, nearest);
    }
    return NULL;
}
