/* sim_disk.h - a disk for tests of the log: it notes every operation, and knows which of them a
 * power cut may undo.
 *
 * The model. What was written to a file is sure to be there after the next sync of that file; a new
 * name, a rename and an unlink after the next sync of the folder. Of what is not sure, any subset
 * may be there. A sync that fails makes nothing sure, and a later one does not make up for it (the
 * kernel has marked the pages clean). An image is what a disk holds at the moment of a power
 * cut. */
#pragma once

#include "mem.h"
#include "wal_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum {
    SIM_FILES = 64,
    SIM_FDS = 64,
    SIM_FOLDER_FD = 1000,
    SIM_NAME_SIZE = 32
};

/* ---- images ---- */

struct sim_file {
    int id; /* 0: the entry is free */
    char *bytes;
    size_t size;
};

struct sim_name {
    char name[SIM_NAME_SIZE];
    int id; /* 0: the entry is free */
};

struct sim_image {
    struct sim_file files[SIM_FILES];
    struct sim_name names[SIM_FILES];
};

static inline struct sim_file *sim_file(struct sim_image *image, int id)
{
    struct sim_file *unused = NULL;
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (image->files[i].id == id) {
            return &image->files[i];
        }
        unused = image->files[i].id == 0 && unused == NULL ? &image->files[i] : unused;
    }
    assert(unused != NULL);
    unused->id = id;
    return unused;
}

static inline struct sim_name *sim_name(struct sim_image *image, const char *name)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (image->names[i].id != 0 && strcmp(image->names[i].name, name) == 0) {
            return &image->names[i];
        }
    }
    return NULL;
}

static inline void sim_set_name(struct sim_image *image, const char *name, int id)
{
    struct sim_name *entry = sim_name(image, name);
    for (size_t i = 0; entry == NULL && i < SIM_FILES; i++) {
        entry = image->names[i].id == 0 ? &image->names[i] : NULL;
    }
    assert(entry != NULL);
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry->id = id;
}

static inline void sim_grow(struct sim_file *file, size_t size)
{
    if (size > file->size) {
        file->bytes = mem_try_resize(file->bytes, size);
        assert(file->bytes != NULL);
        memset(file->bytes + file->size, 0, size - file->size);
        file->size = size;
    }
}

static inline void sim_put(struct sim_file *file, uint64_t offset, const char *bytes, size_t size)
{
    sim_grow(file, (size_t)offset + size);
    memcpy(file->bytes + offset, bytes, size);
}

static inline void sim_image_finish(struct sim_image *image)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        mem_free(image->files[i].bytes);
    }
    *image = (struct sim_image){0};
}

static inline void sim_image_copy(const struct sim_image *from, struct sim_image *ret_to)
{
    *ret_to = *from;
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (from->files[i].id != 0) {
            ret_to->files[i].bytes = mem_copy_bytes(from->files[i].bytes, from->files[i].size);
        }
    }
}

static inline bool sim_has_name(const struct sim_image *image, int id)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (image->names[i].id == id) {
            return true;
        }
    }
    return false;
}

/* So that equal images are tried once: names and bytes, whatever the inodes are called. */
static inline uint64_t sim_hash_bytes(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        hash ^= hash >> 29;
    }
    for (; size > 0; size--) {
        hash = (hash ^ *at++) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static inline uint64_t sim_image_hash(struct sim_image *image)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < SIM_FILES; i++) {
        const struct sim_name *name = &image->names[i];
        if (name->id != 0) {
            const struct sim_file *file = sim_file(image, name->id);
            uint64_t hash = sim_hash_bytes(1469598103934665603U, name->name, strlen(name->name));
            sum += sim_hash_bytes(hash, file->bytes, file->size);
        }
    }
    return sum;
}

/* ---- operations ---- */

enum sim_kind {
    SIM_OPEN,
    SIM_CREATE,
    SIM_WRITE,
    SIM_RESERVE,
    SIM_SYNC,
    SIM_SYNC_FOLDER,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_CLOSE,
    SIM_EVENT /* of the test itself */
};

struct sim_op {
    enum sim_kind kind;
    int file;
    uint64_t offset; /* or size, or the event's value */
    size_t size;     /* or which event */
    char *bytes;
    char from[SIM_NAME_SIZE];
    char to[SIM_NAME_SIZE];
    bool orphan; /* a sync of it failed */
    bool sure;   /* a sync of it went well */
};

static inline bool sim_is_of_folder(const struct sim_op *op)
{
    return op->kind == SIM_CREATE || op->kind == SIM_RENAME || op->kind == SIM_UNLINK;
}

static inline bool sim_changes(const struct sim_op *op)
{
    return sim_is_of_folder(op) || op->kind == SIM_WRITE || op->kind == SIM_RESERVE;
}

static inline bool sim_makes_sure(const struct sim_op *sync, const struct sim_op *op)
{
    if (sync->kind == SIM_SYNC_FOLDER) {
        return sim_is_of_folder(op);
    }
    return sync->kind == SIM_SYNC && op->file == sync->file && !sim_is_of_folder(op);
}

static inline void sim_apply(struct sim_image *image, const struct sim_op *op)
{
    struct sim_name *name;
    if (op->kind == SIM_CREATE) {
        (void)sim_file(image, op->file);
        sim_set_name(image, op->to, op->file);
    } else if (op->kind == SIM_WRITE) {
        sim_put(sim_file(image, op->file), op->offset, op->bytes, op->size);
    } else if (op->kind == SIM_RESERVE) {
        sim_grow(sim_file(image, op->file), (size_t)op->offset);
    } else if (op->kind == SIM_RENAME) {
        name = sim_name(image, op->from);
        if (name != NULL && name->id == op->file) {
            name->id = 0;
        }
        sim_set_name(image, op->to, op->file);
    } else if (op->kind == SIM_UNLINK) {
        name = sim_name(image, op->from);
        if (name != NULL) {
            name->id = 0;
        }
    }
}

/* ---- the disk ---- */

struct sim {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct wal_io io;
    struct sim_image now; /* what a process sees, and what kill -9 leaves */
    struct sim_op *ops;
    size_t ops_count;
    size_t ops_capacity;
    int next_file;
    int fds[SIM_FDS]; /* the file; 0: free */
    int64_t free_bytes;
    int full_code; /* there is no block left for a new file: this errno; 0: there are */
    bool lies;     /* a sync answers 0 and makes nothing sure */
    bool held;     /* writes wait */
    bool waiting;
    /* The call with this number, counted from 1, fails with this errno; and those after it when
     * `fails_on`. Only those of a kind in the mask. */
    size_t calls;
    size_t fail_at;
    int fail_code;
    bool fails_on;
    bool short_writes; /* one byte, then up to 7, ... */
    enum sim_kind failed_kind;
    bool failed;
    size_t failed_at_op;
};

static inline struct sim_op *sim_add(struct sim *sim, struct sim_op op)
{
    if (sim->ops_count == sim->ops_capacity) {
        sim->ops_capacity = sim->ops_capacity * 2 + 64;
        sim->ops = mem_try_resize(sim->ops, sim->ops_capacity * sizeof(op));
        assert(sim->ops != NULL);
    }
    sim->ops[sim->ops_count] = op;
    return &sim->ops[sim->ops_count++];
}

/* The mutex is held. */
static inline void sim_do(struct sim *sim, struct sim_op op)
{
    sim_apply(&sim->now, &op);
    (void)sim_add(sim, op);
}

static inline void sim_event(struct sim *sim, size_t event, uint64_t value)
{
    (void)pthread_mutex_lock(&sim->mutex);
    (void)sim_add(sim, (struct sim_op){.kind = SIM_EVENT, .size = event, .offset = value});
    (void)pthread_mutex_unlock(&sim->mutex);
}

/* Counts the call; a negative errno when this one is to fail. The mutex is held. */
static inline int sim_count(struct sim *sim, enum sim_kind kind)
{
    sim->calls++;
    bool fails = sim->fail_at != 0 &&
                 (sim->calls == sim->fail_at || (sim->fails_on && sim->calls > sim->fail_at));
    if (fails && !sim->failed) {
        sim->failed = true;
        sim->failed_kind = kind;
        sim->failed_at_op = sim->ops_count;
    }
    return fails ? -sim->fail_code : 0;
}

static inline int sim_open_folder(void *context, const char *path, bool make)
{
    (void)context;
    (void)path;
    (void)make;
    return SIM_FOLDER_FD;
}

static inline int sim_open(void *context, int folder, const char *name, enum wal_open how)
{
    struct sim *sim = context;
    assert(folder == SIM_FOLDER_FD);
    (void)pthread_mutex_lock(&sim->mutex);
    struct sim_name *entry = sim_name(&sim->now, name);
    bool makes = how == WAL_OPEN_CREATE || (how == WAL_OPEN_LOCK && entry == NULL);
    int code = sim_count(sim, makes ? SIM_CREATE : SIM_OPEN);
    int fd = 0;
    while (sim->fds[fd] != 0) {
        fd++;
        assert(fd < SIM_FDS);
    }
    if (code == 0 && makes) {
        struct sim_op op = {.kind = SIM_CREATE, .file = ++sim->next_file};
        (void)snprintf(op.to, sizeof(op.to), "%s", name);
        sim_do(sim, op);
        sim->fds[fd] = op.file;
    } else if (code == 0 && entry != NULL) {
        sim->fds[fd] = entry->id;
    } else if (code == 0) {
        code = -ENOENT;
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code < 0 ? code : fd;
}

static inline int sim_close(void *context, int fd)
{
    struct sim *sim = context;
    if (fd == SIM_FOLDER_FD) {
        return 0;
    }
    (void)pthread_mutex_lock(&sim->mutex);
    assert(sim->fds[fd] != 0);
    int code = sim_count(sim, SIM_CLOSE);
    sim->fds[fd] = 0;
    (void)pthread_mutex_unlock(&sim->mutex);
    return code;
}

static inline ssize_t sim_read(void *context, int fd, void *into, size_t size, uint64_t offset)
{
    struct sim *sim = context;
    (void)pthread_mutex_lock(&sim->mutex);
    int code = sim_count(sim, SIM_OPEN);
    const struct sim_file *file = sim_file(&sim->now, sim->fds[fd]);
    size_t left = offset < file->size ? file->size - (size_t)offset : 0;
    size = size < left ? size : left;
    if (size > 0 && code == 0) {
        memcpy(into, file->bytes + offset, size);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code < 0 ? code : (ssize_t)size;
}

static inline ssize_t sim_write(void *context, int fd, const struct iovec *parts, int count,
                                uint64_t offset)
{
    struct sim *sim = context;
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        size += parts[i].iov_len;
    }
    char *bytes = mem_alloc(size + 1);
    for (int i = 0, at = 0; i < count; at += (int)parts[i].iov_len, i++) {
        memcpy(bytes + at, parts[i].iov_base, parts[i].iov_len);
    }
    (void)pthread_mutex_lock(&sim->mutex);
    while (sim->held) {
        sim->waiting = true;
        (void)pthread_cond_broadcast(&sim->changed);
        (void)pthread_cond_wait(&sim->changed, &sim->mutex);
    }
    sim->waiting = false;
    int code = sim_count(sim, SIM_WRITE);
    if (sim->short_writes && size > 1) {
        size = 1 + sim->calls % 7 * (size / 8);
    }
    if (code == 0) {
        sim_do(sim, (struct sim_op){.kind = SIM_WRITE,
                                    .file = sim->fds[fd],
                                    .offset = offset,
                                    .size = size,
                                    .bytes = bytes});
    } else {
        mem_free(bytes);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code < 0 ? code : (ssize_t)size;
}

static inline int sim_reserve(void *context, int fd, uint64_t size)
{
    struct sim *sim = context;
    (void)pthread_mutex_lock(&sim->mutex);
    int code = sim_count(sim, SIM_RESERVE);
    code = code == 0 ? -sim->full_code : code;
    if (code == 0) {
        sim_do(sim, (struct sim_op){.kind = SIM_RESERVE, .file = sim->fds[fd], .offset = size});
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code;
}

static inline int sim_sync(void *context, int fd)
{
    struct sim *sim = context;
    bool folder = fd == SIM_FOLDER_FD;
    (void)pthread_mutex_lock(&sim->mutex);
    struct sim_op op = {.kind = folder ? SIM_SYNC_FOLDER : SIM_SYNC,
                        .file = folder ? 0 : sim->fds[fd]};
    int code = sim_count(sim, op.kind);
    for (size_t i = 0; code != -EINTR && i < sim->ops_count; i++) {
        struct sim_op *before = &sim->ops[i];
        if (sim_makes_sure(&op, before) && !before->sure && !before->orphan) {
            before->sure = code == 0 && !sim->lies;
            before->orphan = code != 0;
        }
    }
    if (code == 0 && !sim->lies) {
        (void)sim_add(sim, op);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code;
}

static inline int sim_rename(void *context, int folder, const char *from, const char *to)
{
    struct sim *sim = context;
    assert(folder == SIM_FOLDER_FD);
    (void)pthread_mutex_lock(&sim->mutex);
    const struct sim_name *entry = sim_name(&sim->now, from);
    int code = sim_count(sim, SIM_RENAME);
    if (code == 0 && entry == NULL) {
        code = -ENOENT;
    }
    if (code == 0) {
        struct sim_op op = {.kind = SIM_RENAME, .file = entry->id};
        (void)snprintf(op.from, sizeof(op.from), "%s", from);
        (void)snprintf(op.to, sizeof(op.to), "%s", to);
        sim_do(sim, op);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code;
}

static inline int sim_unlink(void *context, int folder, const char *name)
{
    struct sim *sim = context;
    assert(folder == SIM_FOLDER_FD);
    (void)pthread_mutex_lock(&sim->mutex);
    const struct sim_name *entry = sim_name(&sim->now, name);
    int code = sim_count(sim, SIM_UNLINK);
    if (code == 0 && entry == NULL) {
        code = -ENOENT;
    }
    if (code == 0) {
        struct sim_op op = {.kind = SIM_UNLINK, .file = entry->id};
        (void)snprintf(op.from, sizeof(op.from), "%s", name);
        sim_do(sim, op);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return code;
}

static inline int64_t sim_size(void *context, int fd)
{
    struct sim *sim = context;
    (void)pthread_mutex_lock(&sim->mutex);
    int64_t size = (int64_t)sim_file(&sim->now, sim->fds[fd])->size;
    (void)pthread_mutex_unlock(&sim->mutex);
    return size;
}

static inline int64_t sim_free_bytes(void *context, int folder)
{
    struct sim *sim = context;
    (void)folder;
    (void)pthread_mutex_lock(&sim->mutex);
    int64_t bytes = sim->free_bytes;
    (void)pthread_mutex_unlock(&sim->mutex);
    return bytes;
}

static inline int sim_list(void *context, int folder,
                           void (*each)(void *each_context, const char *name), void *each_context)
{
    struct sim *sim = context;
    struct sim_name names[SIM_FILES];
    (void)folder;
    (void)pthread_mutex_lock(&sim->mutex);
    int code = sim_count(sim, SIM_OPEN);
    memcpy(names, sim->now.names, sizeof(names));
    (void)pthread_mutex_unlock(&sim->mutex);
    for (size_t i = 0; code == 0 && i < SIM_FILES; i++) {
        if (names[i].id != 0) {
            each(each_context, names[i].name);
        }
    }
    return code;
}

/* A disk that holds what the image holds, all of it sure. Takes the image. */
static inline void sim_init(struct sim *sim, struct sim_image *image_take)
{
    *sim = (struct sim){.free_bytes = INT64_MAX};
    (void)pthread_mutex_init(&sim->mutex, NULL);
    (void)pthread_cond_init(&sim->changed, NULL);
    if (image_take != NULL) {
        sim->now = *image_take;
        *image_take = (struct sim_image){0};
    }
    for (size_t i = 0; i < SIM_FILES; i++) {
        sim->next_file =
            sim->now.files[i].id > sim->next_file ? sim->now.files[i].id : sim->next_file;
    }
    sim->io = (struct wal_io){
        .context = sim,
        .open_folder = sim_open_folder,
        .open = sim_open,
        .close = sim_close,
        .read = sim_read,
        .write = sim_write,
        .reserve = sim_reserve,
        .sync_data = sim_sync,
        .sync = sim_sync,
        .rename = sim_rename,
        .unlink = sim_unlink,
        .size = sim_size,
        .free_bytes = sim_free_bytes,
        .list = sim_list,
    };
}

static inline void sim_finish(struct sim *sim)
{
    for (size_t i = 0; i < sim->ops_count; i++) {
        mem_free(sim->ops[i].bytes);
    }
    mem_free(sim->ops);
    sim_image_finish(&sim->now);
    (void)pthread_cond_destroy(&sim->changed);
    (void)pthread_mutex_destroy(&sim->mutex);
}

/* Writes wait from now on; returns when one does. */
static inline void sim_hold(struct sim *sim)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->held = true;
    (void)pthread_mutex_unlock(&sim->mutex);
}

static inline void sim_wait_held(struct sim *sim)
{
    (void)pthread_mutex_lock(&sim->mutex);
    while (!sim->waiting) {
        (void)pthread_cond_wait(&sim->changed, &sim->mutex);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
}

static inline void sim_release(struct sim *sim)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->held = false;
    (void)pthread_cond_broadcast(&sim->changed);
    (void)pthread_mutex_unlock(&sim->mutex);
}

/* Whether a trimmed segment has become a new one. */
static inline bool sim_has_reused(struct sim *sim)
{
    bool found = false;
    (void)pthread_mutex_lock(&sim->mutex);
    for (size_t i = 0; i < sim->ops_count; i++) {
        const struct sim_op *op = &sim->ops[i];
        found = found ||
                (op->kind == SIM_RENAME && op->from[0] == '0' && strcmp(op->to, "next.new") == 0);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return found;
}
