#include "worker_text.h"

#include "worker_guard.h"

/* Functions, and words that work as one without parentheses, whose value is not in the text. */
/* clang-format off */
static const char *const changing_names[] = {
    "now", "today", "current_date", "current_time", "current_timestamp", "get_current_time",
    "get_current_timestamp", "current_localtime", "current_localtimestamp", "localtime", "localtimestamp",
    "transaction_timestamp", "statement_timestamp", "clock_timestamp", "age", "ago",
    "pg_postmaster_start_time", "pg_conf_load_time", "random", "setseed", "uuid", "uuidv4", "uuidv7",
    "gen_random_uuid", "tablesample", "sample", "reservoir_quantile", "explain", "current_user", "current_role", "session_user",
    "user", "current_database", "current_schema", "current_schemas", "version", "stats", "nextval", "currval",
};
/* clang-format on */

/* Most differ in their first byte: nothing else is looked at then. */
static bool is_among(struct str text, const char *const *words, size_t count)
{
    char first = text.len == 0 ? '\0' : (char)(text.ptr[0] | 0x20);
    for (size_t i = 0; i < count; i++) {
        if (words[i][0] == first && str_equal_nocase(text, str_of(words[i]))) {
            return true;
        }
    }
    return false;
}

bool worker_is_catalog_name(struct str name)
{
    static const char *const prefixes[] = {"pg_", "duckdb_", "sqlite_", "pragma_"};
    bool found = false;
    for (size_t i = 0; !found && i < COUNT_OF(prefixes); i++) {
        found = str_starts_nocase(name, str_of(prefixes[i]));
    }
    return found;
}

void worker_visit_names(struct str statement, void (*visit)(void *context, struct str name),
                        void *context)
{
    struct guard_token token;
    struct err ignored;
    struct buf name;
    buf_init(&name, GUARD_STATEMENT_SIZE_MAX);
    while (guard_next(&statement, &token, &ignored) && token.kind != GUARD_END) {
        if (token.kind != GUARD_WORD && token.kind != GUARD_QUOTED) {
            continue;
        }
        if (token.kind == GUARD_WORD || str_find_byte(token.text, '"') == token.text.len) {
            visit(context, token.text);
            continue;
        }
        buf_reset(&name);
        for (size_t i = 0; i < token.text.len; i++) {
            buf_append_byte(&name, token.text.ptr[i]);
            i += token.text.ptr[i] == '"'; /* a doubled quote */
        }
        visit(context, buf_str(&name));
    }
    buf_finish(&name);
}

bool worker_may_read_tables(struct str statement)
{
    static const char *const words[] = {"from", "table",     "describe", "desc",
                                        "show", "summarize", "pivot",    "unpivot"};
    struct guard_token token;
    struct err ignored;
    bool may = false;
    while (!may && guard_next(&statement, &token, &ignored) && token.kind != GUARD_END) {
        may = token.kind == GUARD_WORD && is_among(token.text, words, COUNT_OF(words));
    }
    return may;
}

bool worker_is_repeatable(struct str statement)
{
    struct guard_verdict verdict;
    struct guard_token token;
    struct err ignored;
    if (!guard_check(statement, &verdict, &ignored) || verdict.catalog) {
        return false;
    }
    while (guard_next(&statement, &token, &ignored) && token.kind != GUARD_END) {
        bool name = token.kind == GUARD_WORD || token.kind == GUARD_QUOTED;
        if (name && is_among(token.text, changing_names, COUNT_OF(changing_names))) {
            return false;
        }
    }
    return true;
}
