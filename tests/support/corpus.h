/* Replays the files of a corpus: tests/corpus/NAME.tsv has a line for each, "file<TAB>code<TAB>why", code as
 * in "OK", "FORMAT", "LIMIT". */
#ifndef TESTS_CORPUS_H
#define TESTS_CORPUS_H

#include "base/context.h"

/* Opens and reads the file whole; the first status that is not HEED_OK. */
typedef heed_status corpus_run(heed_context *ctx, const char *path, heed_error *err);

/* Returns the number of files that ended with another code than the table's, or whose error has no text, and
 * prints them. *files: how many there are; a file without a line, or a line without its file, is wrong too.
 */
int corpus_replay(heed_context *ctx, const char *name, const char *ending, corpus_run *run, int *files);

/* The same, and the error's text must hold the third column. */
int corpus_replay_words(heed_context *ctx, const char *name, const char *ending, corpus_run *run, int *files);

#endif
