/* "file.idx.gz[20:30]": which records of an IDX file are meant. */
#ifndef DATA_IDX_H
#define DATA_IDX_H

#include <stddef.h>
#include <stdint.h>

typedef struct idx_range {
    int64_t begin, end; /* end -1: to the last */
} idx_range;

/* Splits "file[a:b]" into the length of "file" and the range; a path that does not end so is all file, and
 * *range is left as it was. */
size_t heed__idx_suffix(const char *path, idx_range *range);

#endif
