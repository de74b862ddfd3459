/* worker_files.h - the files that the engine may read and write inside a worker, behind
 * worker_shim.h. job://in and job://out are the descriptors that came with the job, job://result
 * goes to a function, from the first byte to the last. Everything else (s3://, lake://) is an
 * object (worker_objects.h).
 * Owner     the worker's main.   Threads  any of the engine's. */
#pragma once

#include "worker_channel.h"
#include "worker_shim.h"

struct files;

/* Registers the file system with the database. The channel and descriptors come later (the zygote
 * has none). */
struct files *files_create(duckdb_database database);
/* For who registers a file system of their own and passes these on (worker_storage.h): the files of
 * one request at a time, job:// alone; `context` of the operations is one of them. */
struct files *files_create_apart(void);
const struct shim_files *files_operations(void);
void files_set_descriptors(struct files *files, int input_fd, int output_fd); /* -1: none */

void files_set_job(struct files *files, struct channel *channel, int input_fd, int output_fd);
void files_set_descriptors(struct files *files, int input_fd, int output_fd); /* -1: none */
/* job://in is this part of the descriptor alone. */
void files_set_window(struct files *files, uint64_t offset, uint64_t size);

/* The descriptor behind job://in, and the part of it; -1 for none. */
int files_input(const struct files *files, uint64_t *ret_offset, uint64_t *ret_size);

/* What is written to job://result. A write that does not begin where the last one ended fails. NULL
 * for none. */
typedef bool files_writer(void *context, const void *bytes, uint64_t size);
void files_set_result(struct files *files, files_writer *writer, void *context);

/* Tells the server how much was read; once, at the end of the job. */
void files_report(struct files *files);
