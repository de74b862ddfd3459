#include "worker_columns.h"

#include "buf.h"
#include "map.h"
#include "mem.h"
#include "worker_shim.h"

/* Names told apart, in time that does not grow with their square: a statement may have thousands of
 * columns, all of one name. */
struct namer {
    struct map used;       /* names of the statement, and those given: to themselves */
    struct map suffixes;   /* a repeated name: to the last suffix that was tried */
    unsigned *suffixes_of; /* one per column */
};

/* name_1, name_2, ... : the first that no other column of the result has. */
static struct str next_name(struct namer *namer, struct str name, unsigned *own)
{
    unsigned *last = map_find(&namer->suffixes, name);
    if (last == NULL) {
        last = own;
        map_set(&namer->suffixes, name, last);
    }
    struct buf candidate;
    buf_init(&candidate, name.len + 32);
    do {
        buf_reset(&candidate);
        buf_append_format(&candidate, "%.*s_%u", STR_ARG(name), ++*last);
    } while (map_find(&namer->used, buf_str(&candidate)) != NULL);
    size_t size;
    char *text = buf_take(&candidate, &size);
    return str_make(text, size);
}

struct str *columns_names(duckdb_result *result)
{
    size_t count = duckdb_column_count(result);
    struct str *names = mem_alloc_array(count, sizeof(*names));
    struct namer namer = {.suffixes_of = mem_alloc_array(count, sizeof(unsigned))};
    struct map first = {0}; /* names of the statement: to the column that keeps the name */
    for (size_t i = 0; i < count; i++) {
        names[i] = str_of(duckdb_column_name(result, i));
        map_set(&namer.used, names[i], names);
        if (map_find(&first, names[i]) == NULL) {
            map_set(&first, names[i], &names[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        struct str name = str_of(duckdb_column_name(result, i));
        if (map_find(&first, name) == &names[i]) {
            names[i] = str_make(mem_copy_bytes(name.ptr, name.len), name.len);
        } else {
            names[i] = next_name(&namer, name, &namer.suffixes_of[i]);
            map_set(&namer.used, names[i], names);
        }
    }
    map_finish(&first);
    map_finish(&namer.suffixes);
    map_finish(&namer.used);
    mem_free(namer.suffixes_of);
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
