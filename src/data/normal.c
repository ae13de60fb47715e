/* See the header. */

#include "data/normal.h"

void heed__normal_table(float table[256], float mean, float std)
{
    for (int v = 0; v < 256; v++)
        table[v] = (float)((v / 255.0 - (double)mean) / (double)std);
}
