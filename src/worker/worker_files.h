/* worker_files.h - the files that the engine may read and write inside a worker, behind
 * worker_shim.h. job://in and job://out are the descriptors that came with the job, job://result
 * goes to a function, from the first byte to the last. Everything else
 * (s3://, lake://) is an object: the server is asked to open it, which it does only for objects of
 * the tables this job resolved, and ranges that are missing from its file are fetched before they
 * are read.
 * Owner     the worker's main.   Threads  any of the engine's.
 * Limits    512 descriptors of objects that nobody reads; a fetch asks for whole blocks of
 *           FILES_BLOCK_SIZE, at most WORKER_FETCH_SIZE_MAX. */
#pragma once

#include "worker_channel.h"
#include "worker_shim.h"

enum {
    FILES_BLOCK_SIZE = 1 << 17,
    FILES_OPEN_MAX = 512
};

struct files;

/* Registers the file system with the database. The channel and descriptors come later (the zygote
 * has none). */
struct files *files_create(duckdb_database database);
void files_set_job(struct files *files, struct channel *channel, int input_fd, int output_fd);

/* What is written to job://result. A write that does not begin where the last one ended fails. NULL
 * for none. */
typedef bool files_writer(void *context, const void *bytes, uint64_t size);
void files_set_result(struct files *files, files_writer *writer, void *context);
