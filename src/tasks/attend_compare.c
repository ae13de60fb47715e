/* A result of attention held against the expected one: vectors/README.md's rule. */

#include "tasks/attend.h"

#include "base/sizes.h"
#include "graph/number.h"

#include <math.h>
#include <string.h>

#define TIE 4e-7 /* of a weight: two that are called equal, each rounded to f32 */

int heed_attend_expected(const heed_attend *a)
{
    return a->expected.n;
}

static double compare_number(const heed_tensor *t, int64_t i)
{
    return heed__number_get(t->type.dtype, t->data, i);
}

static double compare_most(const heed_tensor *want)
{
    double most = 0;

    for (int64_t i = 0; i < heed_type_count(&want->type); i++)
        if (isfinite(compare_number(want, i)))
            most = fmax(most, fabs(compare_number(want, i)));
    return most;
}

static void compare_fault(heed_attend_line *l, const char *why)
{
    if (l->ok)
        l->why = why;
    l->ok = false;
}

static void compare_numbers(heed_attend_line *l, const heed_attend *a, const heed_tensor *got,
                            const heed_tensor *want)
{
    const double base = a->atol * fmax(1, compare_most(want));

    for (int64_t i = 0; i < heed_type_count(&want->type); i++) {
        const double g = compare_number(got, i), w = compare_number(want, i), apart = fabs(g - w),
                     allowed = base + a->rtol * fabs(w);

        if (isinf(w) && w < 0 && isinf(g) && g < 0)
            continue;
        if (!isfinite(g) || !isfinite(w)) {
            compare_fault(l, "not finite");
            continue;
        }
        l->worst = fmax(l->worst, apart);
        l->share = fmax(l->share, apart > 0 ? apart / allowed : 0);
    }
    if (l->share > 1)
        compare_fault(l, "too far apart");
}

/* Keys may differ where their weights are the same: then either order is right. */
static void compare_indices(heed_attend_line *l, const heed_attend *a, const heed_tensor *got,
                            const heed_tensor *want)
{
    const attend_named *weights = heed__attend_result(a, "weights");
    const int64_t k = want->type.rank ? want->type.dims[want->type.rank - 1] : 1,
                  tk = weights ? weights->tensor.type.dims[3] : 0;

    for (int64_t i = 0; i < heed_type_count(&want->type); i++) {
        const int64_t g = ((const int64_t *)got->data)[i], w = ((const int64_t *)want->data)[i], row = i / k;

        if (g == w)
            continue;
        l->worst = fmax(l->worst, fabs((double)g - (double)w));
        if (tk < 1 || g < 0 || g >= tk || w < 0 || w >= tk ||
            !(fabs(compare_number(&weights->tensor, row * tk + g) -
                   compare_number(&weights->tensor, row * tk + w)) <=
              TIE * compare_number(&weights->tensor, row * tk + w)))
            compare_fault(l, "another index");
    }
}

heed_attend_line heed_attend_compare(const heed_attend *a, int i)
{
    heed_attend_line l = { .name = "", .why = "", .ok = true };
    const attend_named *want, *got;
    heed_type type;

    if (i < 0 || i >= a->expected.n)
        return l;
    want = &a->expected.at[i];
    got = heed__attend_result(a, want->name);
    l.name = want->name;
    l.type = type = want->tensor.type;
    if (!got || !a->ran) {
        compare_fault(&l, "not computed");
        return l;
    }
    if ((type.dtype == HEED_I64) != (got->tensor.type.dtype == HEED_I64)) {
        compare_fault(&l, "another dtype");
        return l;
    }
    type.dtype = got->tensor.type.dtype;
    if (!heed_type_equal(&type, &got->tensor.type)) {
        compare_fault(&l, "another shape");
        return l;
    }
    if (type.dtype == HEED_I64)
        compare_indices(&l, a, &got->tensor, &want->tensor);
    else
        compare_numbers(&l, a, &got->tensor, &want->tensor);
    return l;
}
