/* The thirteen steps of heed/attention.h in plain loops and double precision, one function a step. Nothing here is shared with the
 * graph or a kernel, so that each may be held against it; it is for reading and for small examples, never for speed. */

#include "tasks/attend.h"

#include "base/error.h"
#include "base/rng.h"
#include "base/sizes.h"
#include "graph/number.h"

#include <math.h>
#include <string.h>

#define CELLS_MOST ((int64_t)1 << 20)
#define BISECTIONS 200

enum { STAGES = 13 };

struct attend_stages {
    arena arena;
    const heed_attention_spec *s;
    bool failed; /* memory ran out */
    int64_t batch, heads, key_heads, tq, tk, dq, dk, dv, cells;
    double *in[ATTEND_INPUTS]; /* floating inputs as doubles; NULL: not given */
    const heed_tensor *given;
    int64_t seed, step;
    int64_t *offset, *lengths, *q_lengths; /* [B] */
    double *q, *k;                         /* turned, for one pass */
    double *s_now;                         /* [B,Hq,Tq,Tk] scores as they stand */
    bool *keep;
    double *lse[2], *w[2];
    heed_attend_stage stage[STAGES + 1];
};

/* ---- places ---- */

static int slot_of(const char *name)
{
    for (int i = 0; i < ATTEND_INPUTS; i++)
        if (heed__attend_name(i) && strcmp(heed__attend_name(i), name) == 0)
            return i;
    return -1;
}

static const double *number(const attend_stages *m, const char *name)
{
    return m->in[slot_of(name)];
}

static const heed_type *type_of(const attend_stages *m, const char *name)
{
    return &m->given[slot_of(name)].type;
}

static const int64_t *integer(const attend_stages *m, const char *name)
{
    return m->given[slot_of(name)].data;
}

static const bool *truth(const attend_stages *m, const char *name)
{
    return m->given[slot_of(name)].data;
}

static double *numbers(attend_stages *m, int64_t n)
{
    double *made = heed__arena_alloc(&m->arena, (size_t)i64_max(1, n), sizeof *made);

    m->failed = m->failed || !made;
    return made;
}

static int64_t cell(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j)
{
    return ((b * m->heads + h) * m->tq + i) * m->tk + j;
}

/* Place of (b,h,i,j) in a tensor of four axes, each full or 1. */
static int64_t spread(const heed_type *t, int64_t b, int64_t h, int64_t i, int64_t j)
{
    const int64_t at[4] = { b, h, i, j };
    int64_t place = 0;

    for (int d = 0; d < 4; d++)
        place = place * t->dims[d] + (t->dims[d] > 1 ? at[d] : 0);
    return place;
}

/* Number h of a tensor per head, [Hq] or [1]; block h of a parameter whose first axis is Hq or 1. */
static int64_t head_of(const attend_stages *m, const char *name, int64_t h)
{
    return type_of(m, name)->dims[0] > 1 ? h : 0;
}

static double per_head(const attend_stages *m, const char *name, int64_t h, double otherwise)
{
    return number(m, name) ? number(m, name)[head_of(m, name, h)] : otherwise;
}

static const double *query(const attend_stages *m, int64_t b, int64_t h, int64_t i)
{
    return m->q + ((b * m->heads + h) * m->tq + i) * m->dq;
}

static const double *key(const attend_stages *m, int64_t b, int64_t h, int64_t j)
{
    return m->k + ((b * m->key_heads + h / (m->heads / m->key_heads)) * m->tk + j) * m->dk;
}

static const double *value(const attend_stages *m, int64_t b, int64_t h, int64_t j)
{
    return m->in[ATTEND_V] + ((b * m->key_heads + h / (m->heads / m->key_heads)) * m->tk + j) * m->dv;
}

/* Is the pair within the lengths? What lies beyond is never read. */
static bool inside(const attend_stages *m, int64_t b, int64_t i, int64_t j)
{
    return i < m->q_lengths[b] && j < m->lengths[b];
}

/* A function of every pair within the lengths. */
typedef double pair_fn(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s);

static void each_pair(attend_stages *m, pair_fn *f)
{
    for (int64_t b = 0; b < m->batch; b++)
        for (int64_t h = 0; h < m->heads; h++)
            for (int64_t i = 0; i < m->tq; i++)
                for (int64_t j = 0; j < m->tk; j++) {
                    double *s = &m->s_now[cell(m, b, h, i, j)];

                    if (inside(m, b, i, j))
                        *s = f(m, b, h, i, j, *s);
                }
}

/* ---- rope ---- */

static void turn_row(const heed_attention_spec *s, double *x, int64_t width, int64_t position)
{
    const int64_t dims = s->position.rope.dims.set ? s->position.rope.dims.value : width;
    const double base = s->position.rope.base.set ? (double)s->position.rope.base.value : 10000;
    const double factor = s->position.rope.factor.set ? (double)s->position.rope.factor.value : 1;

    for (int64_t n = 0; n < dims / 2; n++) {
        const double t = (double)position / factor * pow(base, -2.0 * (double)n / (double)dims);
        double *a = x + (s->position.rope.interleaved ? 2 * n : n),
               *b = x + (s->position.rope.interleaved ? 2 * n + 1 : n + dims / 2);
        const double was = *a;

        *a = was * cos(t) - *b * sin(t);
        *b = *b * cos(t) + was * sin(t);
    }
}

static double *turned(attend_stages *m, const double *x, int64_t heads, int64_t steps, int64_t width,
                      bool queries)
{
    double *y = numbers(m, m->batch * heads * steps * width);

    if (!y)
        return NULL;
    memcpy(y, x, (size_t)(m->batch * heads * steps * width) * sizeof *y);
    for (int64_t r = 0; m->s->position.rope.on && r < m->batch * heads * steps; r++) {
        const int64_t b = r / (heads * steps), t = r % steps;

        turn_row(m->s, y + r * width, i64_min(m->dq, m->dk), queries ? t + m->offset[b] : t);
    }
    return y;
}

/* ---- 1: raw ---- */

static double dot(const double *x, const double *y, int64_t n)
{
    double sum = 0;

    for (int64_t c = 0; c < n; c++)
        sum += x[c] * y[c];
    return sum;
}

static double squared_distance(const double *x, const double *y, int64_t n)
{
    double sum = 0;

    for (int64_t c = 0; c < n; c++)
        sum += (x[c] - y[c]) * (x[c] - y[c]);
    return sum;
}

static double general(const attend_stages *m, const double *q, const double *k, int64_t h)
{
    const double *w = number(m, "score_w") + head_of(m, "score_w", h) * m->dq * m->dk;
    double sum = 0;

    for (int64_t c = 0; c < m->dq; c++)
        sum += q[c] * dot(w + c * m->dk, k, m->dk);
    return sum;
}

/* f_ij[c] = sum_t loc_kernel[c,t] prev[b,h,i, j + t - (K-1)/2] */
static double located(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, int64_t channel)
{
    const int64_t taps = type_of(m, "loc_kernel")->dims[1];
    double sum = 0;

    for (int64_t t = 0; t < taps; t++) {
        const int64_t at = j + t - (taps - 1) / 2;

        if (at >= 0 && at < m->tk)
            sum += number(m, "loc_kernel")[channel * taps + t] * number(m, "prev")[cell(m, b, h, i, at)];
    }
    return sum;
}

static double additive(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j)
{
    const int64_t width = type_of(m, "add_v")->dims[1];
    const double *v = number(m, "add_v") + head_of(m, "add_v", h) * width;
    const double *wq = number(m, "add_wq") + head_of(m, "add_wq", h) * width * m->dq;
    const double *wk = number(m, "add_wk") + head_of(m, "add_wk", h) * width * m->dk;
    double sum = 0;

    for (int64_t a = 0; a < width; a++) {
        double x =
            dot(wq + a * m->dq, query(m, b, h, i), m->dq) + dot(wk + a * m->dk, key(m, b, h, j), m->dk);

        if (number(m, "add_b"))
            x += number(m, "add_b")[head_of(m, "add_b", h) * width + a];
        if (m->s->score.kind == HEED_SCORE_LOCATION) {
            const int64_t channels = type_of(m, "loc_kernel")->dims[0];
            const double *u = number(m, "loc_u") + (head_of(m, "loc_u", h) * width + a) * channels;

            for (int64_t c = 0; c < channels; c++)
                x += u[c] * located(m, b, h, i, j, c);
        }
        sum += v[a] * tanh(x);
    }
    return sum;
}

static double raw(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    const double *q = query(m, b, h, i), *k = key(m, b, h, j);

    (void)s;
    switch (m->s->score.kind) {
    case HEED_SCORE_GENERAL:
        return general(m, q, k, h);
    case HEED_SCORE_ADDITIVE:
    case HEED_SCORE_LOCATION:
        return additive(m, b, h, i, j);
    case HEED_SCORE_COSINE:
        return per_head(m, "tau", h, 1) * dot(q, k, m->dk) /
               (fmax(sqrt(dot(q, q, m->dk)), 1e-6) * fmax(sqrt(dot(k, k, m->dk)), 1e-6));
    case HEED_SCORE_NEG_SQ_DISTANCE:
        return -squared_distance(q, k, m->dk);
    case HEED_SCORE_NEG_DISTANCE:
        return -sqrt(squared_distance(q, k, m->dk) + 1e-12);
    case HEED_SCORE_SCALED_DOT:
    case HEED_SCORE_DOT:
    default:
        return dot(q, k, m->dk);
    }
}

/* ---- 2 to 7: terms, scale, cap, talking, temperature ---- */

static int64_t distance_of(const attend_stages *m, int64_t b, int64_t i, int64_t j)
{
    return j - (i + m->offset[b]);
}

static int64_t clip(int64_t x, int64_t least, int64_t most)
{
    return i64_max(least, i64_min(x, most));
}

static int64_t shaw_place(const attend_stages *m, const char *table, int64_t b, int64_t i, int64_t j)
{
    const int64_t w = (type_of(m, table)->dims[0] - 1) / 2;

    return clip(distance_of(m, b, i, j), -w, w) + w;
}

static double relative(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    const double *q = query(m, b, h, i), *k = key(m, b, h, j);

    if (number(m, "shaw_k"))
        s += dot(q, number(m, "shaw_k") + shaw_place(m, "shaw_k", b, i, j) * m->dk, m->dk);
    if (number(m, "xl_r")) {
        const int64_t size = type_of(m, "xl_r")->dims[0],
                      zero = m->s->position.xl.zero.set ? m->s->position.xl.zero.value : 0;
        const int64_t at = clip(-distance_of(m, b, i, j) + zero, 0, size - 1);
        const double *r = number(m, "xl_r") + (at * m->heads + h) * m->dk;

        s += dot(q, r, m->dk) + dot(number(m, "xl_u") + h * m->dk, k, m->dk) +
             dot(number(m, "xl_v") + h * m->dk, r, m->dk);
    }
    return s;
}

static double scaled(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    (void)b, (void)h, (void)i, (void)j;
    if (m->s->score.scale.set)
        return s * (double)m->s->score.scale.value;
    return m->s->score.kind == HEED_SCORE_SCALED_DOT && m->dk > 0 ? s / sqrt((double)m->dk) : s;
}

static double slope(const attend_stages *m, int64_t h)
{
    int64_t n = 1;

    if (number(m, "alibi_slopes"))
        return per_head(m, "alibi_slopes", h, 0);
    while (2 * n <= m->heads)
        n *= 2;
    return h < n ? exp2(-8 * (double)(h + 1) / (double)n) : exp2(-4 * (double)(2 * (h - n) + 1) / (double)n);
}

static int64_t bucket(const attend_stages *m, int64_t d)
{
    const bool both = m->s->position.t5.kind != HEED_T5_UNIDIRECTIONAL;
    const int64_t all = type_of(m, "t5_table")->dims[0], n = both ? all / 2 : all, e = n / 2,
                  far = both ? (d < 0 ? -d : d) : i64_max(0, -d),
                  most = m->s->position.t5.max_distance.set ? m->s->position.t5.max_distance.value : 128;
    int64_t at = far;

    if (far >= e)
        at = i64_min(n - 1, e + (int64_t)floor((double)(n - e) * log((double)far / (double)e) /
                                                   log((double)most / (double)e) +
                                               1e-9));
    return both && d > 0 ? at + n : at;
}

static double placed(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    const int64_t d = distance_of(m, b, i, j);

    if (heed__spec_alibi(m->s) || number(m, "alibi_slopes"))
        s -= slope(m, h) * fabs((double)d);
    if (number(m, "t5_table"))
        s += number(m, "t5_table")[bucket(m, d) * m->heads + h];
    if (number(m, "bias"))
        s += number(m, "bias")[spread(type_of(m, "bias"), b, h, i, j)];
    return s;
}

static double capped(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    const double cap = (double)m->s->softcap;

    (void)b, (void)h, (void)i, (void)j;
    return cap > 0 ? cap * tanh(s / cap) : s;
}

static double tempered(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j, double s)
{
    (void)b, (void)i, (void)j;
    return s / per_head(m, "temperature", h,
                        m->s->normaliser.temperature.set ? (double)m->s->normaliser.temperature.value : 1);
}

/* y_h = sum_g by[h,g] x_g */
static double *talked(attend_stages *m, const double *x, const double *by)
{
    double *y = numbers(m, m->cells);

    for (int64_t b = 0; y && b < m->batch; b++)
        for (int64_t h = 0; h < m->heads; h++)
            for (int64_t g = 0; g < m->heads; g++)
                for (int64_t n = 0; n < m->tq * m->tk; n++)
                    y[cell(m, b, h, 0, 0) + n] += by[h * m->heads + g] * x[cell(m, b, g, 0, 0) + n];
    return y;
}

/* ---- masks ---- */

static bool is_listed(const int64_t *list, int64_t n, int64_t x)
{
    for (int64_t i = 0; i < n; i++)
        if (list[i] == x)
            return true;
    return false;
}

static bool near(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j)
{
    const heed_attention_spec *s = m->s;
    const int64_t d = distance_of(m, b, i, j), n = s->mask.stride;
    bool keep = true;

    if (s->mask.window.on && s->mask.window.left >= 0)
        keep = keep && d >= -s->mask.window.left;
    if (s->mask.window.on && s->mask.window.right >= 0)
        keep = keep && d <= s->mask.window.right;
    if (n)
        keep = keep && ((d < n && d > -n) || d % n == 0);
    if (s->mask.block[0]) {
        const heed_type *t = type_of(m, "block_keep");
        const int64_t down = i64_ceil_div(m->tq, s->mask.block[0]),
                      across = i64_ceil_div(m->tk, s->mask.block[1]);

        keep =
            keep && truth(m, "block_keep")[((t->rank == 3 ? h : 0) * down + i / s->mask.block[0]) * across +
                                           j / s->mask.block[1]];
    }
    if (integer(m, "globals")) {
        const int64_t count = type_of(m, "globals")->dims[0];

        keep = keep || is_listed(integer(m, "globals"), count, j) ||
               is_listed(integer(m, "globals"), count, i + m->offset[b]);
    }
    return keep;
}

static bool kept(const attend_stages *m, int64_t b, int64_t h, int64_t i, int64_t j)
{
    bool keep = inside(m, b, i, j) && near(m, b, h, i, j);

    if (m->s->mask.causal)
        keep = keep && distance_of(m, b, i, j) <= 0;
    if (integer(m, "q_seg"))
        keep = keep && integer(m, "q_seg")[b * m->tq + i] >= 0 &&
               integer(m, "q_seg")[b * m->tq + i] == integer(m, "k_seg")[b * m->tk + j];
    if (integer(m, "graph_indptr")) {
        const int64_t from = integer(m, "graph_indptr")[i], to = integer(m, "graph_indptr")[i + 1];

        keep = keep && is_listed(integer(m, "graph_indices") + from, to - from, j);
    }
    if (truth(m, "mask"))
        keep = keep && truth(m, "mask")[spread(type_of(m, "mask"), b, h, i, j)];
    return keep;
}

/* ---- 8: normalisers, one row: z and keep [Tk], w [Tk]; the result is lse ---- */

static double most_of(const double *z, const bool *keep, int64_t n)
{
    double most = -INFINITY;

    for (int64_t j = 0; j < n; j++)
        if (keep[j] && z[j] > most)
            most = z[j];
    return most;
}

/* m e^z / (sum m e^z + e^sink); factor NULL: 1. */
static double by_exp(double *w, const double *z, const bool *keep, int64_t n, const double *factor,
                     double sink)
{
    double most = fmax(most_of(z, keep, n), sink), sum = 0;
    bool any = false;

    for (int64_t j = 0; j < n; j++)
        any = any || (keep[j] && (!factor || factor[j] > 0));
    for (int64_t j = 0; any && j < n; j++) {
        w[j] = keep[j] ? exp(z[j] - most) * (factor ? factor[j] : 1) : 0;
        sum += w[j];
    }
    sum += any ? exp(sink - most) : 0;
    for (int64_t j = 0; any && j < n; j++)
        w[j] /= sum;
    return any ? most + log(sum) : -INFINITY;
}

/* The k largest, ties to the lower key. */
static double by_largest(double *w, const double *z, const bool *keep, int64_t n, int64_t k, bool *chosen)
{
    memset(chosen, 0, (size_t)n * sizeof *chosen);
    for (; k > 0; k--) {
        int64_t best = -1;

        for (int64_t j = 0; j < n; j++)
            if (keep[j] && !chosen[j] && (best < 0 || z[j] > z[best]))
                best = j;
        if (best < 0)
            break;
        chosen[best] = true;
    }
    return by_exp(w, z, chosen, n, NULL, -INFINITY);
}

/* [(alpha - 1) z - tau]+^(1/(alpha - 1)), sum 1 */
static void by_entmax(double *w, const double *z, const bool *keep, int64_t n, double alpha)
{
    const double most = (alpha - 1) * most_of(z, keep, n);
    double low = most - 1, high = most, sum = 0;

    if (!isfinite(most))
        return;
    for (int round = 0; round <= BISECTIONS; round++) {
        const double tau = round < BISECTIONS ? 0.5 * (low + high) : low;

        sum = 0;
        for (int64_t j = 0; j < n; j++) {
            const double x = (alpha - 1) * z[j] - tau;

            w[j] = keep[j] && x > 0 ? pow(x, 1 / (alpha - 1)) : 0;
            sum += w[j];
        }
        if (sum >= 1)
            low = tau;
        else
            high = tau;
    }
    for (int64_t j = 0; j < n; j++)
        w[j] /= sum;
}

static double normalised(attend_stages *m, int64_t b, int64_t h, int64_t i, double *w, double *factor,
                         bool *chosen)
{
    const heed_attention_spec *s = m->s;
    const double *z = m->s_now + cell(m, b, h, i, 0);
    const bool *keep = m->keep + cell(m, b, h, i, 0);
    const double ramp = s->normaliser.ramp.set ? (double)s->normaliser.ramp.value : 32;

    switch (s->normaliser.kind) {
    case HEED_NORMALISER_SPARSEMAX:
        by_entmax(w, z, keep, m->tk, 2);
        return NAN;
    case HEED_NORMALISER_ENTMAX15:
        by_entmax(w, z, keep, m->tk, 1.5);
        return NAN;
    case HEED_NORMALISER_ENTMAX:
        by_entmax(w, z, keep, m->tk,
                  per_head(m, "alpha", h, s->normaliser.alpha.set ? (double)s->normaliser.alpha.value : 1.5));
        return NAN;
    case HEED_NORMALISER_SIGMOID:
        for (int64_t j = 0; j < m->tk; j++)
            w[j] =
                keep[j]
                    ? 1 / (1 + exp(-(z[j] + per_head(m, "sigmoid_bias", h,
                                                     s->normaliser.bias.set ? (double)s->normaliser.bias.value
                                                                            : 0))))
                    : 0;
        return NAN;
    case HEED_NORMALISER_TOPK:
        return by_largest(w, z, keep, m->tk, s->normaliser.k, chosen);
    case HEED_NORMALISER_HARD:
        return by_largest(w, z, keep, m->tk, 1, chosen);
    case HEED_NORMALISER_ADAPTIVE_SPAN:
        for (int64_t j = 0; j < m->tk; j++)
            factor[j] =
                fmax(0, fmin(1, (ramp + per_head(m, "span", h, 0) - fabs((double)distance_of(m, b, i, j))) /
                                    ramp));
        return by_exp(w, z, keep, m->tk, factor, -INFINITY);
    case HEED_NORMALISER_SOFTMAX:
    case HEED_NORMALISER_LINEAR:
    default:
        return by_exp(w, z, keep, m->tk, NULL,
                      per_head(m, "sink", h, s->normaliser.plus_one ? 0 : -INFINITY));
    }
}

/* phi(q).phi(k) / sum, phi(x) = elu(x) + 1 */
static void by_kernel(attend_stages *m, int64_t b, int64_t h, int64_t i, double *w)
{
    const bool *keep = m->keep + cell(m, b, h, i, 0);
    double sum = 0;

    for (int64_t j = 0; j < m->tk; j++) {
        w[j] = 0;
        for (int64_t c = 0; keep[j] && c < m->dk; c++) {
            const double x = query(m, b, h, i)[c], y = key(m, b, h, j)[c];

            w[j] += (x > 0 ? x + 1 : exp(x)) * (y > 0 ? y + 1 : exp(y));
        }
        sum += w[j];
    }
    for (int64_t j = 0; sum > 0 && j < m->tk; j++)
        w[j] /= sum;
}

static void normalise(attend_stages *m, int pass)
{
    double *factor = numbers(m, m->tk);
    bool *chosen = heed__arena_alloc(&m->arena, (size_t)m->tk + 1, sizeof *chosen);

    m->w[pass] = numbers(m, m->cells);
    m->lse[pass] = numbers(m, m->batch * m->heads * m->tq);
    m->failed = m->failed || !chosen;
    if (m->failed)
        return;
    for (int64_t r = 0; r < m->batch * m->heads * m->tq; r++) {
        const int64_t b = r / (m->heads * m->tq), h = r / m->tq % m->heads, i = r % m->tq;

        if (m->s->normaliser.kind == HEED_NORMALISER_LINEAR)
            by_kernel(m, b, h, i, m->w[pass] + r * m->tk);
        else
            m->lse[pass][r] = normalised(m, b, h, i, m->w[pass] + r * m->tk, factor, chosen);
    }
}

/* ---- 11 to 13 ---- */

static double *dropped(attend_stages *m, const double *w)
{
    const double p = m->s->combine.dropout.p;
    const rng stream = { .seed = (uint64_t)m->seed,
                         .step = (uint32_t)m->step,
                         .node = (uint32_t)m->s->combine.dropout.node.value };
    double *y = numbers(m, m->cells);

    for (int64_t n = 0; y && n < m->cells; n++) {
        const bool keep = !(p > 0) ? true
                          : truth(m, "dropout_keep")
                              ? truth(m, "dropout_keep")[n]
                              : heed__rng_word(&stream, (uint32_t)(n / m->tk), (uint32_t)(n % m->tk)) >=
                                    (uint32_t)floor(p * 4294967296.0);

        y[n] = keep ? w[n] / (1 - p) : 0;
    }
    return y;
}

static double *combined(attend_stages *m, const double *w)
{
    double *out = numbers(m, m->batch * m->heads * m->tq * m->dv);

    for (int64_t b = 0; out && b < m->batch; b++)
        for (int64_t h = 0; h < m->heads; h++)
            for (int64_t i = 0; i < m->tq; i++)
                for (int64_t j = 0; j < m->tk; j++) {
                    const double by = w[cell(m, b, h, i, j)];

                    for (int64_t c = 0; inside(m, b, i, j) && c < m->dv; c++) {
                        double x = value(m, b, h, j)[c];

                        if (number(m, "shaw_v"))
                            x += number(m, "shaw_v")[shaw_place(m, "shaw_v", b, i, j) * m->dv + c];
                        out[((b * m->heads + h) * m->tq + i) * m->dv + c] += by * x;
                    }
                }
    return out;
}

static double *gated(attend_stages *m, const double *x)
{
    double *out = numbers(m, m->batch * m->heads * m->tq * m->dv);

    for (int64_t n = 0; out && n < m->batch * m->heads * m->tq * m->dv; n++) {
        const int64_t c = n % m->dv, i = n / m->dv % m->tq, h = n / m->dv / m->tq % m->heads,
                      b = n / m->dv / m->tq / m->heads;

        out[n] = x[n];
        if (number(m, "gate"))
            out[n] /= 1 + exp(-number(m, "gate")[spread(type_of(m, "gate"), b, h, i, c)]);
    }
    return out;
}

/* ---- all ---- */

static void note(attend_stages *m, int n, const char *name, const char *formula, bool used,
                 const double *values)
{
    const bool result = n >= 12;
    const int64_t count = result ? m->batch * m->heads * m->tq * m->dv : m->cells;
    double *copy = numbers(m, count);

    m->stage[n] = (heed_attend_stage){ .number = n,
                                       .name = name,
                                       .formula = formula,
                                       .used = used,
                                       .dims = { m->batch, m->heads, m->tq, result ? m->dv : m->tk },
                                       .values = copy };
    if (copy && values && count > 0)
        memcpy(copy, values, (size_t)count * sizeof *copy);
}

static const char *raw_formula(heed_score_kind kind)
{
    static const char *const formulas[] = {
        [HEED_SCORE_SCALED_DOT] = "q . k",
        [HEED_SCORE_DOT] = "q . k",
        [HEED_SCORE_GENERAL] = "q^T score_w k",
        [HEED_SCORE_ADDITIVE] = "add_v^T tanh(add_wq q + add_wk k + add_b)",
        [HEED_SCORE_LOCATION] = "add_v^T tanh(add_wq q + add_wk k + loc_u (loc_kernel * prev) + add_b)",
        [HEED_SCORE_COSINE] = "tau cos(q, k)",
        [HEED_SCORE_NEG_SQ_DISTANCE] = "-|q - k|^2",
        [HEED_SCORE_NEG_DISTANCE] = "-sqrt(|q - k|^2 + 1e-12)",
    };

    return formulas[kind];
}

/* Steps 1 to 8 on one pair of queries and keys; told of the first only. */
static void score_pass(attend_stages *m, int pass, const double *q, const double *k)
{
    const heed_attention_spec *s = m->s;
    const struct {
        const char *name, *formula;
        pair_fn *f;
        bool used;
    } steps[] = {
        { "raw", raw_formula(s->score.kind), raw, true },
        { "relative", "s + shaw + xl terms", relative, number(m, "shaw_k") || number(m, "xl_r") },
        { "scaled", "scale s", scaled, s->score.scale.set || s->score.kind == HEED_SCORE_SCALED_DOT },
        { "placed", "s + alibi + t5 + bias", placed,
          heed__spec_alibi(s) || number(m, "alibi_slopes") || number(m, "t5_table") || number(m, "bias") },
        { "capped", "softcap tanh(s / softcap)", capped, s->softcap > 0 },
        { "talk_pre", "sum over heads g of talk_pre[h,g] s_g", NULL, number(m, "talk_pre") != NULL },
        { "z", "s / temperature", tempered, s->normaliser.temperature.set || number(m, "temperature") },
    };

    m->q = turned(m, q, m->heads, m->tq, m->dq, true);
    m->k = turned(m, k, m->key_heads, m->tk, m->dk, false);
    m->s_now = numbers(m, m->cells);
    if (m->failed)
        return;
    for (int n = 0; n < 7 && s->normaliser.kind != HEED_NORMALISER_LINEAR; n++) {
        if (steps[n].f)
            each_pair(m, steps[n].f);
        else if (steps[n].used)
            m->s_now = talked(m, m->s_now, number(m, "talk_pre"));
        if (pass == 0)
            note(m, n + 1, steps[n].name, steps[n].formula, steps[n].used, m->s_now);
        if (m->failed)
            return;
    }
    normalise(m, pass);
}

static void all_passes(attend_stages *m)
{
    double *w;

    score_pass(m, 0, m->in[ATTEND_Q], m->in[ATTEND_K]);
    if (number(m, "q2") && !m->failed)
        score_pass(m, 1, number(m, "q2"), number(m, "k2"));
    if (m->failed)
        return;
    w = m->w[0];
    note(m, 8, "w", "normalise z over kept keys", true, w);
    for (int64_t n = 0; number(m, "q2") && n < m->cells; n++)
        w[n] -= per_head(m, "lambda", n / (m->tq * m->tk) % m->heads, 0) * m->w[1][n];
    note(m, 9, "w", "w(q,k) - lambda_h w(q2,k2)", number(m, "q2") != NULL, w);
    if (number(m, "talk_post"))
        w = talked(m, w, number(m, "talk_post"));
    note(m, 10, "weights", "sum over heads g of talk_post[h,g] w_g", number(m, "talk_post") != NULL, w);
    w = m->failed ? NULL : dropped(m, w);
    note(m, 11, "dropped", "w keep / (1 - p)", m->s->combine.dropout.p > 0, w);
    w = m->failed ? NULL : combined(m, w);
    note(m, 12, "sums", "sum over keys of w v", true, w);
    w = m->failed ? NULL : gated(m, w);
    note(m, 13, "out", "sigmoid(gate) out", number(m, "gate") != NULL, w);
}

/* Sizes, positions and lengths, taken as they are within what exists. */
static void prepare(attend_stages *m)
{
    const int64_t bound = (int64_t)1 << 40;

    m->offset = heed__arena_alloc(&m->arena, (size_t)m->batch + 1, sizeof *m->offset);
    m->lengths = heed__arena_alloc(&m->arena, (size_t)m->batch + 1, sizeof *m->lengths);
    m->q_lengths = heed__arena_alloc(&m->arena, (size_t)m->batch + 1, sizeof *m->q_lengths);
    m->keep = heed__arena_alloc(&m->arena, (size_t)m->cells + 1, sizeof *m->keep);
    m->failed = m->failed || !m->offset || !m->lengths || !m->q_lengths || !m->keep;
    for (int64_t b = 0; !m->failed && b < m->batch; b++) {
        m->offset[b] = integer(m, "offset") ? integer(m, "offset")[b]
                       : m->s->offset.set   ? m->s->offset.value
                                            : m->tk - m->tq;
        m->offset[b] = clip(m->offset[b], -bound, bound);
        m->lengths[b] = integer(m, "lengths") ? clip(integer(m, "lengths")[b], 0, m->tk) : m->tk;
        m->q_lengths[b] = integer(m, "q_lengths") ? clip(integer(m, "q_lengths")[b], 0, m->tq) : m->tq;
    }
    for (int64_t n = 0; !m->failed && n < m->cells; n++)
        m->keep[n] = kept(m, n / (m->heads * m->tq * m->tk), n / (m->tq * m->tk) % m->heads,
                          n / m->tk % m->tq, n % m->tk);
}

static void widen(attend_stages *m)
{
    for (int i = 0; i < ATTEND_DOUT; i++) {
        const heed_tensor *t = &m->given[i];

        if (!t->data || !(DTYPE_BIT(t->type.dtype) & FLOATS))
            continue;
        m->in[i] = numbers(m, heed_type_count(&t->type));
        for (int64_t n = 0; m->in[i] && n < heed_type_count(&t->type); n++)
            m->in[i][n] = heed__number_get(t->type.dtype, t->data, n);
    }
}

void heed__attend_stages_free(heed_attend *a)
{
    if (!a->stages)
        return;
    heed__arena_release(&a->stages->arena);
    heed__release(a->ctx->heap, a->stages);
    a->stages = NULL;
}

heed_status heed_attend_stages(heed_attend *a, heed_error *err)
{
    const heed_type *q, *k, *v;
    attend_stages *m;

    if (!a->ran) /* a run has looked at lengths, indices and lists */
        return heed__fail(err, HEED_ERR_USAGE,
                          "nothing is computed: call heed_attend_run before heed_attend_stages");
    if (a->stages)
        return HEED_OK;
    q = &a->given[ATTEND_Q].type;
    k = &a->given[ATTEND_K].type;
    v = &a->given[ATTEND_V].type;
    if (heed_type_count(q) > CELLS_MOST || heed_type_count(k) > CELLS_MOST ||
        heed_type_count(v) > CELLS_MOST || q->dims[0] * q->dims[1] * q->dims[2] > CELLS_MOST ||
        q->dims[0] * q->dims[1] * q->dims[2] * k->dims[2] > CELLS_MOST)
        return heed__fail(err, HEED_ERR_LIMIT, "step by step is for small examples: at most %lld scores",
                          (long long)CELLS_MOST);
    m = heed__alloc(a->ctx->heap, 1, sizeof *m);
    if (!m)
        return heed__fail_memory(err, sizeof *m);
    a->stages = m;
    heed__arena_init(&m->arena, a->ctx->heap);
    m->s = &a->text->spec;
    m->seed = a->text->seed;
    m->step = a->text->step;
    m->given = a->given;
    m->batch = q->dims[0];
    m->heads = q->dims[1];
    m->tq = q->dims[2];
    m->dq = q->dims[3];
    m->key_heads = k->dims[1];
    m->tk = k->dims[2];
    m->dk = k->dims[3];
    m->dv = v->dims[3];
    m->cells = m->batch * m->heads * m->tq * m->tk;
    widen(m);
    prepare(m);
    if (!m->failed)
        all_passes(m);
    if (!m->failed)
        return HEED_OK;
    heed__fail_memory(err, (uint64_t)m->cells * sizeof(double));
    heed__attend_stages_free(a);
    return HEED_ERR_MEMORY;
}

heed_attend_stage heed_attend_stage_at(const heed_attend *a, int n)
{
    return a->stages && n >= 1 && n <= STAGES ? a->stages->stage[n] : (heed_attend_stage){ .number = 0 };
}

const bool *heed_attend_kept(const heed_attend *a)
{
    return a->stages ? a->stages->keep : NULL;
}

const double *heed_attend_log_sums(const heed_attend *a, int second)
{
    const attention_attrs defined = { .normaliser = a->text ? (int)a->text->spec.normaliser.kind : 0 };

    return a->stages && heed__attention_has_lse(&defined) && second >= 0 && second < 2
               ? a->stages->lse[second]
               : NULL;
}
