/* The colour map. Seven points in OKLab (Ottosson 2020), where equal distances look equally far apart,
 * joined by a Catmull-Rom curve:
 *
 * Lightness rises all the way from 0.20 to 0.96: a map reads the same in grey and to readers who see no
 * red or no green; hue only helps. Steps differ from their mean length by less than 15 % (draw_test).
 *
 * OKLab -> linear sRGB: l, m, s are cubes of sums, then a 3 x 3 matrix; sRGB's own curve comes last. */
#include "explain/colour.h"

#include <math.h>

typedef struct lab {
    double l, a, b;
} lab;

#define POINTS 7
static const lab colour_points[POINTS] = {
    { 0.20, 0.0181, -0.0676 }, /* indigo */
    { 0.33, 0.0700, -0.1212 },
    { 0.46, 0.1472, -0.0850 },
    { 0.59, 0.1793, 0.0157 }, /* rose */
    { 0.72, 0.1152, 0.1037 }, /* orange */
    { 0.84, 0.0324, 0.1207 },
    { 0.96, -0.0194, 0.0724 }, /* pale yellow */
};

/* Point i of the curve; beyond its ends the first and last step go on. */
static lab colour_point(int i)
{
    const lab *p = colour_points;

    if (i < 0)
        return (lab){ 2 * p[0].l - p[1].l, 2 * p[0].a - p[1].a, 2 * p[0].b - p[1].b };
    if (i >= POINTS)
        return (lab){ 2 * p[POINTS - 1].l - p[POINTS - 2].l, 2 * p[POINTS - 1].a - p[POINTS - 2].a,
                      2 * p[POINTS - 1].b - p[POINTS - 2].b };
    return p[i];
}

static double colour_curve(double p0, double p1, double p2, double p3, double f)
{
    return 0.5 * (2 * p1 + (p2 - p0) * f + (2 * p0 - 5 * p1 + 4 * p2 - p3) * f * f +
                  (3 * p1 - p0 - 3 * p2 + p3) * f * f * f);
}

static uint8_t colour_byte(double linear)
{
    const double x = fmin(fmax(linear, 0), 1);
    const double y = x <= 0.0031308 ? 12.92 * x : 1.055 * pow(x, 1 / 2.4) - 0.055;

    return (uint8_t)floor(y * 255 + 0.5);
}

static colour colour_of(lab c)
{
    const double l = c.l + 0.3963377774 * c.a + 0.2158037573 * c.b;
    const double m = c.l - 0.1055613458 * c.a - 0.0638541728 * c.b;
    const double s = c.l - 0.0894841775 * c.a - 1.2914855480 * c.b;
    const double l3 = l * l * l, m3 = m * m * m, s3 = s * s * s;

    return (colour){ colour_byte(4.0767416621 * l3 - 3.3077115913 * m3 + 0.2309699292 * s3),
                     colour_byte(2.6097574011 * m3 - 1.2684380046 * l3 - 0.3413193965 * s3),
                     colour_byte(1.7076147010 * s3 - 0.0041960863 * l3 - 0.7034186147 * m3) };
}

void heed__colours(colour table[COLOUR_STEPS])
{
    for (int i = 0; i < COLOUR_STEPS; i++) {
        const double x = (double)i / (COLOUR_STEPS - 1) * (POINTS - 1);
        const int from = x < POINTS - 1 ? (int)x : POINTS - 2;
        const double f = x - from;
        const lab p = colour_point(from - 1), q = colour_point(from), r = colour_point(from + 1),
                  s = colour_point(from + 2);

        table[i] = colour_of((lab){ colour_curve(p.l, q.l, r.l, s.l, f), colour_curve(p.a, q.a, r.a, s.a, f),
                                    colour_curve(p.b, q.b, r.b, s.b, f) });
    }
}

int heed__colour_at(double value)
{
    return value > 0 ? (int)floor(fmin(value, 1) * (COLOUR_STEPS - 1) + 0.5) : 0;
}

colour heed__colour_mix(colour a, colour b)
{
    return (colour){ (uint8_t)((a.r + b.r + 1) / 2), (uint8_t)((a.g + b.g + 1) / 2),
                     (uint8_t)((a.b + b.b + 1) / 2) };
}

static int colour_square(int a, int b)
{
    return (a - b) * (a - b);
}

static int colour_distance(colour c, int r, int g, int b)
{
    return colour_square(c.r, r) + colour_square(c.g, g) + colour_square(c.b, b);
}

/* Cube levels are 0, 95, 135, 175, 215, 255; greys 8, 18, ... 238. */
int heed__colour_terminal(colour c)
{
    static const uint8_t levels[6] = { 0, 95, 135, 175, 215, 255 };
    const uint8_t of[3] = { c.r, c.g, c.b };
    int at[3] = { 0 }, grey = (c.r + c.g + c.b) / 3;

    for (int k = 0; k < 3; k++)
        for (int i = 1; i < 6; i++)
            if (colour_square(levels[i], of[k]) < colour_square(levels[at[k]], of[k]))
                at[k] = i;
    grey = grey < 8 ? 0 : grey > 238 ? 23 : (grey - 8 + 5) / 10;
    grey = grey > 23 ? 23 : grey;
    if (colour_distance(c, 8 + 10 * grey, 8 + 10 * grey, 8 + 10 * grey) <
        colour_distance(c, levels[at[0]], levels[at[1]], levels[at[2]]))
        return 232 + grey;
    return 16 + 36 * at[0] + 6 * at[1] + at[2];
}
