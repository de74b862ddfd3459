/* worker_objects.h - objects as a worker reads them: the server is asked to open one, which it does
 * only for objects of the tables this job resolved, and answers with a file and a map of the blocks
 * that are in it. What is there is read without asking; what is missing is asked for, and for a
 * reader that moves forward it is asked for ahead.
 * Promise   a read gives the object's bytes or fails: the map is looked at before the bytes, and
 *           its counter, which changes before a block is taken away, again after them.
 * Owner     the worker's main.   Threads  any of the engine's.
 * Limits    512 descriptors of objects that nobody reads; a question asks for whole blocks, at most
 *           WORKER_FETCH_SIZE_MAX bytes. */
#pragma once

#include "worker_channel.h"

enum {
    OBJECTS_OPEN_MAX = 512
};

struct objects;
struct object;

struct objects *objects_create(struct channel *channel);

/* NULL on failure, with a text in `problem`. */
struct object *object_open(struct objects *objects, const char *path, char *problem,
                           size_t problem_size);
bool object_read(struct object *object, void *into, uint64_t size, uint64_t offset, char *problem,
                 size_t problem_size) MUST_CHECK;
uint64_t object_size(const struct object *object);
void object_close(struct object *object);

/* Sends READS. */
void objects_report(struct objects *objects);
