/* One neuron: what it can do, what it learns, what it never can, and what a second layer adds.
 *
 *   1  a threshold unit computes AND, OR and NOT                        McCulloch, Pitts 1943
 *   2  the perceptron rule finds a line where there is one              Rosenblatt 1958; bound: Novikoff 1962
 *   3  no threshold unit computes XOR: four inequalities                Minsky, Papert 1969
 *   4  two layers do: built by hand, then learned by heed               Rumelhart, Hinton, Williams 1986
 *
 * Exit code 1 when any of it does not come out. */
#include <heed/heed.h>
#include <stdio.h>

/* Fires when w1 x1 + w2 x2 reaches the threshold. */
typedef struct unit {
    double w1, w2, threshold;
} unit;

static int fires(unit u, double x1, double x2)
{
    return u.w1 * x1 + u.w2 * x2 >= u.threshold;
}

static const double corners[4][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 1, 1 } };

/* The answers of a unit at the four corners, as the bits of a number. */
static int truth_table(unit u)
{
    int bits = 0;

    for (int i = 0; i < 4; i++)
        bits |= fires(u, corners[i][0], corners[i][1]) << i;
    return bits;
}

enum { AND = 8, OR = 14, NOT_X2 = 5, NAND = 7, XOR = 6 };

static int threshold_units(void)
{
    const struct {
        const char *name;
        unit u;
        int wanted;
    } units[] = { { "x1 AND x2", { 1, 1, 2 }, AND },
                  { "x1 OR x2", { 1, 1, 1 }, OR },
                  { "NOT x2", { 0, -1, 0 }, NOT_X2 } };
    int right = 1;

    printf("1. Threshold units: 1 when w1 x1 + w2 x2 >= t\n\n    %-10s  w1  w2   t   00 01 10 11\n", "");
    for (int i = 0; i < 3; i++) {
        const int got = truth_table(units[i].u);

        printf("    %-10s %3g %3g %3g   ", units[i].name, units[i].u.w1, units[i].u.w2, units[i].u.threshold);
        for (int k = 0; k < 4; k++)
            printf("%2d ", got >> k & 1);
        printf(" %s\n", got == units[i].wanted ? "exact" : "WRONG");
        right &= got == units[i].wanted;
    }
    return right;
}

/* Points on either side of x1 + 2 x2 = 4, no nearer than 1 in that sum; the labels are +1 and -1. */
static int perceptron(void)
{
    static const struct {
        double x1, x2;
        int label;
    } points[] = { { 4, 2, 1 },  { 1, 3, 1 },   { 5, 0, 1 },  { 3, 1, 1 },  { 0, 0, -1 },
                   { 2, 0, -1 }, { -1, 2, -1 }, { 1, 1, -1 }, { -3, 3, -1 } };
    const int n = sizeof points / sizeof *points;
    double w1 = 0, w2 = 0, bias = 0, radius = 0, least = 1e9;
    int updates = 0, passes = 0, errors;

    for (int i = 0; i < n;
         i++) { /* R^2 = max |(x,1)|^2; margin of the known line (1, 2, -4), whose norm squared is 21 */
        const double square = points[i].x1 * points[i].x1 + points[i].x2 * points[i].x2 + 1;
        const double side = points[i].label * (points[i].x1 + 2 * points[i].x2 - 4);

        radius = square > radius ? square : radius;
        least = side < least ? side : least;
    }
    do {
        errors = 0;
        for (int i = 0; i < n; i++)
            if (points[i].label * (w1 * points[i].x1 + w2 * points[i].x2 + bias) <= 0) {
                w1 += points[i].label * points[i].x1;
                w2 += points[i].label * points[i].x2;
                bias += points[i].label;
                errors++;
            }
        updates += errors;
        passes++;
    } while (errors > 0 && passes < 1000);
    printf("\n2. The perceptron rule: on a mistake, w += label x and bias += label\n\n");
    printf("    %d points, %d updates in %d passes: %d errors, line %g x1 %+g x2 %+g = 0\n", n, updates,
           passes, errors, w1, w2, bias);
    printf("    Novikoff's bound for these points: at most R^2 / margin^2 = %g updates\n",
           radius * 21 / (least * least));
    return errors == 0 && updates <= radius * 21 / (least * least);
}

static int bits_set(int x)
{
    return (x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3 & 1);
}

/* Weights and thresholds in halves from -2 to 2 give every function of two bits that a line can give. */
static int no_unit_computes_xor(void)
{
    int found[16] = { 0 }, functions = 0, best = 0;

    for (int a = -4; a <= 4; a++)
        for (int b = -4; b <= 4; b++)
            for (int t = -4; t <= 4; t++)
                found[truth_table((unit){ a / 2.0, b / 2.0, t / 2.0 })] = 1;
    for (int f = 0; f < 16; f++)
        if (found[f]) {
            const int right = 4 - bits_set(f ^ XOR);

            functions++;
            best = right > best ? right : best;
        }
    printf("\n3. No threshold unit computes XOR. It would need\n\n"
           "    00 -> 0         0 <  t      (a)\n"
           "    01 -> 1        w2 >= t      (b)\n"
           "    10 -> 1        w1 >= t      (c)\n"
           "    11 -> 0   w1 + w2 <  t      (d)\n\n"
           "    (b) + (c): w1 + w2 >= 2 t, and 2 t > t because of (a). So w1 + w2 > t, against (d).\n"
           "    Of the 16 functions of two bits, units compute %d: all but XOR and its opposite.\n"
           "    The best that any line reaches is %d of XOR's 4 corners.\n",
           functions, best);
    return functions == 14 && !found[XOR] && !found[15 - XOR] && best == 3;
}

static int two_layers_by_hand(void)
{
    const unit either = { 1, 1, 1 }, not_both = { -1, -1, -1 }, both = { 1, 1, 2 };
    int bits = 0;

    for (int i = 0; i < 4; i++)
        bits |= fires(both, fires(either, corners[i][0], corners[i][1]),
                      fires(not_both, corners[i][0], corners[i][1]))
                << i;
    printf("\n4. Two layers: (x1 OR x2) AND (x1 NAND x2), three units of kind 1: %s\n",
           bits == XOR ? "exact" : "WRONG");
    return bits == XOR && truth_table(not_both) == NAND;
}

/* The same shape, learned: in[0] [B,2] -> hidden layer of tanh -> logits [B,2] */
static heed_value network(heed_builder *b, const heed_value *in, const void *config)
{
    (void)config;
    return heed_linear(b, "output", heed_tanh(b, heed_linear(b, "hidden", in[0], 4, NULL)), 2, NULL);
}

static heed_status two_layers_learned(int *right, heed_error *err)
{
    float points[4][2], logits[4][2], loss = 1;
    int64_t labels[4];
    heed_tensor x = { HEED_TYPE(HEED_F32, 4, 2), points }, y = { HEED_TYPE(HEED_I64, 4), labels };
    heed_tensor out = { HEED_TYPE(HEED_F32, 4, 2), logits };
    heed_context *ctx = NULL;
    heed_model *model = NULL;
    heed_trainer *trainer = NULL;
    heed_status st = HEED_OK;

    for (int i = 0; i < 4; i++) {
        points[i][0] = (float)corners[i][0];
        points[i][1] = (float)corners[i][1];
        labels[i] = XOR >> i & 1;
    }
    if ((st = heed_context_new(&ctx, NULL, err)) ||
        (st = heed_model_new(&model, ctx, network, NULL, &(heed_model_opts){ .seed = 1 }, err)) ||
        (st = heed_trainer_new(&trainer, model,
                               &(heed_trainer_opts){ .optimizer = HEED_ADAM, .lr = HEED_SET(0.05f) }, err)))
        goto done;
    for (int step = 0; step < 500 && st == HEED_OK; step++)
        st = heed_trainer_step(trainer, &x, 1, &y, &loss, err);
    if (st || (st = heed_model_run(model, &x, 1, &out, 1, err)))
        goto done;
    printf("   learned from the four corners, 4 hidden units, 500 steps; loss %s 0.01\n\n",
           loss < 0.01f ? "below" : "NOT BELOW");
    *right = loss < 0.01f;
    for (int i = 0; i < 4; i++) {
        const int got = logits[i][1] > logits[i][0];

        printf("    %g xor %g = %d\n", corners[i][0], corners[i][1], got);
        *right &= got == labels[i];
    }
done:
    heed_trainer_free(trainer);
    heed_model_free(model);
    heed_context_free(ctx);
    return st;
}

int main(void)
{
    heed_error err = { 0 };
    int right = threshold_units() & perceptron() & no_unit_computes_xor() & two_layers_by_hand(), learned = 0;

    if (two_layers_learned(&learned, &err))
        fprintf(stderr, "%s\n", err.text);
    return !(right && learned);
}
