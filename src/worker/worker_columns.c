#include "worker_columns.h"

#include "buf.h"
#include "mem.h"
#include "worker_shim.h"

static bool is_taken(const struct str *names, size_t count, struct str name)
{
    for (size_t i = 0; i < count; i++) {
        if (str_equal(names[i], name)) {
            return true;
        }
    }
    return false;
}

/* The name, or name_1, name_2, ... : the first that no other column of the result has. */
static struct str unique_name(duckdb_result *result, const struct str *used, size_t used_count,
                              struct str name)
{
    struct buf candidate;
    buf_init(&candidate, name.len + 32);
    buf_append(&candidate, name);
    for (unsigned suffix = 1; is_taken(used, used_count, buf_str(&candidate)); suffix++) {
        buf_reset(&candidate);
        buf_append_format(&candidate, "%.*s_%u", STR_ARG(name), suffix);
        for (idx_t i = 0; i < duckdb_column_count(result); i++) {
            if (str_equal(buf_str(&candidate), str_of(duckdb_column_name(result, i)))) {
                buf_reset(&candidate); /* a later column has this very name */
                buf_append(&candidate, name);
                break;
            }
        }
    }
    size_t size;
    char *text = buf_take(&candidate, &size);
    return str_make(text, size);
}

struct str *columns_names(duckdb_result *result)
{
    size_t count = duckdb_column_count(result);
    struct str *names = mem_alloc_array(count, sizeof(*names));
    for (size_t i = 0; i < count; i++) {
        names[i] = unique_name(result, names, i, str_of(duckdb_column_name(result, i)));
    }
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
