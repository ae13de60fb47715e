/* Writes the toy data set as IDX files for a script: toy_data FOLDER (it is made). */
#include "support/cmocka.h"
#include "support/toy.h"

#include <sys/stat.h>

int main(int n, char **args)
{
    if (n != 2 || mkdir(args[1], 0700) != 0)
        return 2;
    toy_write_idx(args[1], 120, 60);
    return 0;
}
