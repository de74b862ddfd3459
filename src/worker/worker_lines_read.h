/* worker_lines_read.h - canonical lines straight into the engine's vectors: the table function
 * eider_lines(), with the columns c0, c1, ... that read_json would give.
 * Promise   the same rows, in the same order, with the same values as read_json gives of the same
 *           lines; of a column that needs a cast it has the value of that, where the text is plain
 *           (worker_lines_quoted.h). A line that is not of the usual shape is not read
 *           differently: `odd` is set then, the statement fails, and read_json has to do it.
 * Not here  the other casts to the types of the file (worker_lines.h).
 * Owner     struct lines_file is the caller's, and stays until the connection is done with it.
 * Threads   as many readers as the engine has threads; each takes the next slice of the lines.
 * Limits    a line of line_size_max bytes; memory: a buffer for one line, 256 KiB at least, per
 *           thread. */
#pragma once

#include "worker_duck.h"
#include "worker_lines.h"

#include <stdatomic.h>

/* Where the lines are. */
struct lines_input {
    int fd;
    uint64_t offset;
    uint64_t size;
};

struct lines_file {
    struct lines_input input;
    const struct worker_lines *lines;
    duckdb_type *types; /* of the columns */
    uint64_t slice_size;
    atomic_uint_fast64_t next_slice;
    atomic_bool odd; /* there is a line that only read_json reads */
};

/* False when a column is of a type that is not read here. To be finished either way. */
bool lines_file_init(struct lines_file *file, const struct worker_lines *lines,
                     const struct lines_input *input) MUST_CHECK;
void lines_file_finish(struct lines_file *file);

/* Slices of about as many lines as a row group has, of lines that are all much alike. The engine
 * makes a group of a slice as it is, where the number is right by 2047; of others it copies rows
 * until they have it. Nothing changes when all lines are one group, or when one is very large. */
void lines_file_fit(struct lines_file *file, uint64_t rows, uint64_t group_rows);
/* Smaller slices, of lines that are few, so that so many threads have some of them. */
void lines_file_share(struct lines_file *file, unsigned threads);
/* Makes eider_lines(); the next file takes its place. */
bool lines_file_register(struct lines_file *file, struct duck *duck, unsigned threads,
                         struct err *err) MUST_CHECK;
