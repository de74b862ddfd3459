#include "worker_read.h"

#include "mem.h"

#define SOURCE "read_parquet('job://in', hive_partitioning = false)"

struct parquet_body {
    struct duck *duck;
    size_t count;
    struct str *names;
    duckdb_logical_type *types;
    struct buf *type_texts; /* what the server is told */
};

static void parquet_body_finish(struct parquet_body *body)
{
    for (size_t i = 0; i < body->count; i++) {
        mem_free((char *)(uintptr_t)body->names[i].ptr);
        buf_finish(&body->type_texts[i]);
        if (body->types != NULL) {
            duckdb_destroy_logical_type(&body->types[i]);
        }
    }
    mem_free(body->names);
    mem_free(body->types);
    mem_free(body->type_texts);
}

/* The engine's words are about job://in and our statement; a client knows of neither. */
static bool blame_body(struct err *err)
{
    duck_hide_statement(err);
    static const char path[] = "job://in";
    static const char body[] = "the body";
    static_assert(sizeof(path) == sizeof(body), "one stands in the place of the other");
    for (char *at = strstr(err->message, path); at != NULL; at = strstr(at, path)) {
        memcpy(at, body, sizeof(body) - 1);
    }
    if (err->kind == ERR_INVALID) {
        struct err reason = *err;
        (void)err_set(err, ERR_INVALID, "the body is not a readable Parquet file: %.600s",
                      reason.message);
    }
    return false;
}

/* The schema's names as the file has them: read_parquet would tell repeated ones apart in silence,
 * and name those without. Elements are listed before their parts, the root first. */
static bool read_names(struct parquet_body *body, struct err *err)
{
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    if (!duck_run(body->duck, STR("SELECT name, num_children FROM parquet_schema('job://in')"),
                  &result, err)) {
        return blame_body(err);
    }
    uint64_t rows = duckdb_row_count(&result);
    uint64_t parts = 0; /* elements to come that belong to the column before */
    body->names = mem_alloc_array(rows, sizeof(*body->names));
    body->type_texts = mem_alloc_array(rows, sizeof(*body->type_texts));
    for (uint64_t row = 1; row < rows; row++) {
        int64_t children = duckdb_value_int64(&result, 1, row);
        if (parts > 0) {
            parts--;
        } else {
            char *name = duckdb_value_varchar(&result, 0, row);
            body->names[body->count++] =
                str_make(name == NULL ? mem_copy_text("") : mem_copy_text(name),
                         name == NULL ? 0 : strlen(name));
            duckdb_free(name);
        }
        parts += children > 0 ? (uint64_t)children : 0;
    }
    return read_check_names(body->names, body->count, err);
}

/* What a new column of a table is declared as (lake_schema.h names these). Others, nested ones
 * among them, become texts. */
static const struct {
    duckdb_type type;
    const char *name;
} declared_types[] = {
    {DUCKDB_TYPE_BOOLEAN, "BOOLEAN"},
    {DUCKDB_TYPE_TINYINT, "TINYINT"},
    {DUCKDB_TYPE_SMALLINT, "SMALLINT"},
    {DUCKDB_TYPE_INTEGER, "INTEGER"},
    {DUCKDB_TYPE_BIGINT, "BIGINT"},
    {DUCKDB_TYPE_HUGEINT, "HUGEINT"},
    {DUCKDB_TYPE_UTINYINT, "UTINYINT"},
    {DUCKDB_TYPE_USMALLINT, "USMALLINT"},
    {DUCKDB_TYPE_UINTEGER, "UINTEGER"},
    {DUCKDB_TYPE_UBIGINT, "UBIGINT"},
    {DUCKDB_TYPE_UHUGEINT, "UHUGEINT"},
    {DUCKDB_TYPE_FLOAT, "FLOAT"},
    {DUCKDB_TYPE_DOUBLE, "DOUBLE"},
    {DUCKDB_TYPE_DATE, "DATE"},
    {DUCKDB_TYPE_TIME, "TIME"},
    {DUCKDB_TYPE_TIMESTAMP, "TIMESTAMP"},
    {DUCKDB_TYPE_TIMESTAMP_S, "TIMESTAMP_S"},
    {DUCKDB_TYPE_TIMESTAMP_MS, "TIMESTAMP_MS"},
    {DUCKDB_TYPE_TIMESTAMP_NS, "TIMESTAMP_NS"},
    {DUCKDB_TYPE_TIMESTAMP_TZ, "TIMESTAMPTZ"},
    {DUCKDB_TYPE_UUID, "UUID"},
    {DUCKDB_TYPE_BLOB, "BLOB"},
    {DUCKDB_TYPE_SQLNULL, "NULL"},
};

static void name_type(duckdb_logical_type type, struct buf *into)
{
    duckdb_type id = duckdb_get_type_id(type);
    char *alias = duckdb_logical_type_get_alias(type);
    buf_init(into, 64);
    if (id == DUCKDB_TYPE_DECIMAL) {
        buf_append_format(into, "DECIMAL(%u,%u)", (unsigned)duckdb_decimal_width(type),
                          (unsigned)duckdb_decimal_scale(type));
    } else if (id == DUCKDB_TYPE_VARCHAR && alias != NULL && strcmp(alias, "JSON") == 0) {
        buf_append_text(into, "JSON");
    }
    for (size_t i = 0; into->len == 0 && i < COUNT_OF(declared_types); i++) {
        if (declared_types[i].type == id) {
            buf_append_text(into, declared_types[i].name);
        }
    }
    if (into->len == 0) {
        buf_append_text(into, "VARCHAR");
    }
    duckdb_free(alias);
}

static bool read_types(struct parquet_body *body, struct err *err)
{
    CLEANUP(duckdb_destroy_prepare) duckdb_prepared_statement prepared = NULL;
    if (duckdb_prepare(body->duck->connection, "SELECT * FROM " SOURCE, &prepared) !=
        DuckDBSuccess) {
        (void)duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_prepare_error(prepared));
        return blame_body(err);
    }
    if (duckdb_prepared_statement_column_count(prepared) != body->count) {
        return err_set(err, ERR_INVALID, "the body's Parquet schema is damaged");
    }
    body->types = mem_alloc_array(body->count, sizeof(*body->types));
    for (size_t i = 0; i < body->count; i++) {
        body->types[i] = duckdb_prepared_statement_column_logical_type(prepared, i);
        name_type(body->types[i], &body->type_texts[i]);
    }
    return true;
}

static bool tell_columns(struct parquet_body *body, struct channel *channel, struct err *err)
{
    struct worker_schema_column *columns = mem_alloc_array(body->count, sizeof(*columns));
    for (size_t i = 0; i < body->count; i++) {
        columns[i].name = body->names[i];
        columns[i].type = buf_str(&body->type_texts[i]);
    }
    struct worker_schema schema = {.columns = columns, .columns_count = body->count};
    bool good = read_send_columns(channel, &schema, err);
    mem_free(columns);
    return good;
}

static void add_text(void *context, const char *bytes, size_t size)
{
    buf_append_bytes(context, bytes, size);
}

/* Casts are part of the statement, so that the engine's threads do them. */
static void append_column(struct buf *sql, struct str name, duckdb_logical_type type)
{
    duckdb_logical_type line_type = shim_line_type(type);
    bool same = shim_types_equal(type, line_type);
    buf_append_text(sql, same ? "" : "CAST(");
    sql_append_identifier(sql, name);
    if (!same) {
        buf_append_text(sql, " AS ");
        sql->failed |= !shim_type_text(line_type, add_text, sql);
        buf_append_text(sql, ") AS ");
        sql_append_identifier(sql, name);
    }
    duckdb_destroy_logical_type(&line_type);
}

static bool execute(struct parquet_body *body, struct channel *channel, const char *sql,
                    struct encode_outcome *ret_outcome, struct err *err)
{
    CLEANUP(duckdb_destroy_prepare) duckdb_prepared_statement prepared = NULL;
    CLEANUP(duckdb_destroy_pending) duckdb_pending_result pending = NULL;
    CLEANUP(duckdb_destroy_result) duckdb_result result = {0};
    struct encode_options options = {.format = WORKER_FORMAT_EXACT};
    if (duckdb_prepare(body->duck->connection, sql, &prepared) != DuckDBSuccess) {
        (void)duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_prepare_error(prepared));
    } else if (duckdb_pending_prepared_streaming(prepared, &pending) != DuckDBSuccess) {
        (void)duck_fail(err, DUCKDB_ERROR_INVALID, duckdb_pending_error(pending));
    } else if (duckdb_execute_pending(pending, &result) != DuckDBSuccess) {
        (void)duck_fail(err, duckdb_result_error_type(&result), duckdb_result_error(&result));
    } else if (encode_result(body->duck, channel, &result, &options, ret_outcome, err)) {
        return true;
    }
    return blame_body(err);
}

static bool read_rows(struct parquet_body *body, struct channel *channel,
                      struct encode_outcome *ret_outcome, struct err *err)
{
    struct buf sql;
    buf_init(&sql, WORKER_FRAME_SIZE_MAX);
    buf_append_text(&sql, "SELECT ");
    for (size_t i = 0; i < body->count; i++) {
        buf_append_text(&sql, i == 0 ? "" : ", ");
        append_column(&sql, body->names[i], body->types[i]);
    }
    buf_append_text(&sql, " FROM " SOURCE);
    bool good = buf_failed(&sql) ? err_set(err, ERR_INVALID, "the body has too many columns")
                                 : execute(body, channel, sql.ptr, ret_outcome, err);
    buf_finish(&sql);
    return good;
}

bool read_parquet_body(struct duck *duck, struct channel *channel,
                       struct encode_outcome *ret_outcome, struct err *err)
{
    CLEANUP(parquet_body_finish) struct parquet_body body = {.duck = duck};
    return read_names(&body, err) && read_types(&body, err) && tell_columns(&body, channel, err) &&
           read_rows(&body, channel, ret_outcome, err);
}
