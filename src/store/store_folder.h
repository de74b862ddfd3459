/* store_folder.h - what the files of the folder store share: opening beneath its root, and what an
 * errno means. Promise   no lookup leaves the root: neither by `..` nor by a symbolic link, whoever
 * made it. */
#pragma once

#include "map.h"
#include "store_internal.h"
#include "thread.h"

#include <sys/stat.h>

/* Files that are being written live in this folder beneath the root, out of everybody's sight. */
#define FOLDER_TEMPORARY ".eider-tmp"

struct store_folder {
    struct store base;
    int root_fd;
    char *path;                   /* absolute */
    struct lock directories_lock; /* held while directories are made and synced */
    struct map synced;            /* paths known to be durable, under directories_lock */
    struct folder_synced *synced_first;
};

/* A directory whose name its parent has on disk, and so on up to the root. */
struct folder_synced {
    struct folder_synced *next;
    struct str path;
    char text[];
};

/* A key, or a part of one, as a path for the kernel. */
struct folder_path {
    char text[STORE_KEY_SIZE_MAX + 2];
};

struct folder_path folder_path_of(struct str text); /* "." for an empty one */
int folder_open(const struct store_folder *folder, const char *path, int flags);

/* Returns false with what an errno of an operation on `key` means. */
bool folder_fail(int errno_value, struct str key, struct err *err);

void folder_describe(const struct stat *status, struct store_object *ret_object);

bool folder_put(struct store *store, struct str key, const struct store_source *source,
                const struct store_put_options *options, struct cancel *cancel,
                struct store_object *ret_object, struct err *err) MUST_CHECK;
void folder_forget_synced(struct store_folder *folder); /* at the end */
/* Removes what a crash has left in FOLDER_TEMPORARY. */
void folder_sweep(const struct store_folder *folder);

bool folder_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                 struct cancel *cancel, struct err *err) MUST_CHECK;
bool folder_list_folders(struct store *store, struct str prefix, bool empty_too,
                         store_visit_fn *visit, void *context, struct cancel *cancel,
                         struct err *err) MUST_CHECK;
