#include "worker_columns.h"

#include "buf.h"
#include "map.h"
#include "mem.h"
#include "worker_shim.h"

/* Names told apart, in time that does not grow with their square: a statement may have thousands of
 * columns, all of one name. */
struct namer {
    bool fold;             /* names that differ in case only are the same */
    struct map used;       /* keys of the statement's names, and of those given */
    struct map suffixes;   /* the key of a repeated name: to the last suffix that was tried */
    unsigned *suffixes_of; /* one per column */
    struct str *keys;      /* one per column, and behind them one per name that was made */
};

static struct str key_of(const struct namer *namer, struct str name)
{
    return namer->fold ? map_folded_key(name)
                       : str_make(mem_copy_bytes(name.ptr, name.len), name.len);
}

static bool take_key(struct namer *namer, struct str name, struct str *ret_key)
{
    struct str key = key_of(namer, name);
    if (map_find(&namer->used, key) != NULL) {
        mem_free((char *)(uintptr_t)key.ptr);
        return false;
    }
    *ret_key = key;
    map_set(&namer->used, key, namer);
    return true;
}

/* name_1, name_2, ... : the first that no other column of the result has. */
static struct str next_name(struct namer *namer, struct str name, size_t column, size_t count)
{
    struct str key = namer->keys[column];
    unsigned *last = map_find(&namer->suffixes, key);
    if (last == NULL) {
        last = &namer->suffixes_of[column];
        map_set(&namer->suffixes, key, last);
    }
    struct buf candidate;
    buf_init(&candidate, name.len + 32);
    do {
        buf_reset(&candidate);
        buf_append_format(&candidate, "%.*s_%u", STR_ARG(name), ++*last);
    } while (!take_key(namer, buf_str(&candidate), &namer->keys[count + column]));
    size_t size;
    char *text = buf_take(&candidate, &size);
    return str_make(text, size);
}

static void namer_finish(struct namer *namer, size_t count)
{
    map_finish(&namer->suffixes);
    map_finish(&namer->used);
    mem_free(namer->suffixes_of);
    columns_names_free(namer->keys, 2 * count);
}

struct str *columns_names(duckdb_result *result, bool fold)
{
    size_t count = duckdb_column_count(result);
    struct str *names = mem_alloc_array(count, sizeof(*names));
    struct namer namer = {
        .fold = fold,
        .suffixes_of = mem_alloc_array(count, sizeof(unsigned)),
        .keys = mem_alloc_array(2 * count, sizeof(struct str)),
    };
    for (size_t i = 0; i < count; i++) { /* all of them, before one is made */
        struct str name = str_of(duckdb_column_name(result, i));
        namer.keys[i] = key_of(&namer, name);
        if (map_find(&namer.used, namer.keys[i]) == NULL) {
            names[i] = str_make(mem_copy_bytes(name.ptr, name.len), name.len);
            map_set(&namer.used, namer.keys[i], &namer);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (names[i].ptr == NULL) {
            names[i] = next_name(&namer, str_of(duckdb_column_name(result, i)), i, count);
        }
    }
    namer_finish(&namer, count);
    return names;
}

void columns_names_free(struct str *names, size_t count)
{
    for (size_t i = 0; names != NULL && i < count; i++) {
        mem_free((char *)(uintptr_t)names[i].ptr);
    }
    mem_free(names);
}

bool columns_flatten(duckdb_data_chunk chunk)
{
    uint64_t rows = duckdb_data_chunk_get_size(chunk);
    for (idx_t i = 0; i < duckdb_data_chunk_get_column_count(chunk); i++) {
        if (!shim_flatten(duckdb_data_chunk_get_vector(chunk, i), rows)) {
            return false;
        }
    }
    return true;
}
