/* Colours of a map: one way from dark indigo over magenta and orange to pale yellow. */
#ifndef EXPLAIN_COLOUR_H
#define EXPLAIN_COLOUR_H

#include <stdint.h>

#define COLOUR_STEPS 256

typedef struct colour {
    uint8_t r, g, b;
} colour;

/* The whole map: table[i] is the colour of i / 255. */
void heed__colours(colour table[COLOUR_STEPS]);

/* Position in the table of a value from 0 to 1; what lies outside, and NaN, is taken to the nearer end
 * (NaN: 0). */
int heed__colour_at(double value);

/* The nearest of the 240 fixed colours of a terminal (16..255: a cube of 6 x 6 x 6 and 24 greys). */
int heed__colour_terminal(colour c);

/* Half of each: what lies under a map stays visible. */
colour heed__colour_mix(colour a, colour b);

#endif
