/* worker_storage.h - the files of one persistent database inside its worker: db:// and what each
 * slot's request may read and write, job://.
 * Promise   no file is opened, moved or removed here: the server does it (WORKER_FILE) and passes
 *           the descriptor. A statement cannot name a db:// path; only the engine's own storage
 *           can. job:// belongs to the slot whose connection asks for it, and to no other.
 *           A sync that has returned is on the disk (fdatasync).
 * Owner     the worker's main.   Threads  any of the engine's, and the slots'.
 * Errors    answered to the engine; storage_failed tells a disk that failed from bytes that are
 *           wrong. */
#pragma once

#include "worker_channel.h"
#include "worker_files.h"

enum {
    STORAGE_HEADER_SIZE = 3 * 4096 /* what every database file begins with */
};

struct storage;

/* `name`: of the main file, without a folder; borrowed. */
struct storage *storage_create(struct channel *channel, struct str name);
/* What shim_open_database takes. */
const struct shim_files *storage_operations(struct storage *storage);

enum storage_phase {
    STORAGE_OPENS,  /* the engine looks at the file with a connection of its own */
    STORAGE_TRIAL,  /* the same; files that stay do not change: writes are kept in memory, the rest
                       fails. What is spilled is written as ever */
    STORAGE_SERVES, /* no connection sees db:// */
};
void storage_set_phase(struct storage *storage, enum storage_phase phase);

/* In this phase a file could not be opened, read or changed for a reason of the disk's, the
 * server's or our own, so what the engine makes of it says nothing about the bytes. */
bool storage_failed(const struct storage *storage);
/* A trial came to the end of what may be kept in memory: it has found out nothing. */
bool storage_patches_full(const struct storage *storage);
/* Writes so far that found the disk full, or the file as large as it may be. */
uint64_t storage_no_room(const struct storage *storage);

/* Bytes of the file of this name plus suffix, and its first bytes, as many as there are of
 * `head_size`. 0 when there is no such file. False with ERR_UNAVAILABLE. */
bool storage_look(struct storage *storage, const char *suffix, void *head, size_t head_size,
                  uint64_t *ret_size, struct err *err) MUST_CHECK;

/* From now on this connection's job:// are these files; NULL ends it. */
void storage_set_client(struct storage *storage, unsigned slot, const void *client,
                        struct files *files);
