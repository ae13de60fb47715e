/* op_test NAME...   everything that the samples beside an op prove about it (support/harness.h), as a table
 * op_test --all     the same for every op
 * op_test --list    the names */
#include "support/harness.h"

#include <string.h>

int main(int argc, char **argv)
{
    static harness_row row;
    harness h;
    int ops = 0, bad = 0, comparisons = 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; heed__ops[i]; i++)
            printf("%s\n", heed__ops[i]->name);
        return 0;
    }
    if (argc < 2) {
        fprintf(stderr, "usage: op_test NAME... | --all | --list\n");
        return 2;
    }
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--all") != 0 && !heed__op_find(argv[i])) {
            fprintf(stderr, "there is no op \"%s\": op_test --list names all\n", argv[i]);
            return 2;
        }
    harness_open(&h);
    harness_print_levels(stdout, &h);
    harness_close(&h);
    harness_print_head(stdout);
    for (int i = 0; heed__ops[i]; i++) {
        bool asked = false;

        for (int k = 1; k < argc; k++)
            asked |= strcmp(argv[k], "--all") == 0 || strcmp(argv[k], heed__ops[i]->name) == 0;
        if (!asked)
            continue;
        harness_op_apart(heed__ops[i], &row);
        harness_print(stdout, &row);
        fflush(stdout);
        ops++;
        bad += row.bad != 0;
        for (int c = 0; c < HARNESS_CHECKS; c++)
            comparisons += row.check[c].done;
    }
    printf("ops: %d ok, %d BAD, %d comparisons\n", ops - bad, bad, comparisons);
    return bad ? 1 : 0;
}
