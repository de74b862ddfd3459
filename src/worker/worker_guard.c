#include "worker_guard.h"

/* clang-format off */
static const char *const first_words[] = {
    "select", "with", "values", "from", "table", "pivot", "unpivot", "describe", "desc", "show", "summarize", "explain",
};

static const char *const catalog_words[] = {
    "information_schema", "duckdb_tables", "duckdb_views", "duckdb_columns", "pg_catalog", "pg_tables", "pg_views",
    "pg_class", "sqlite_master", "sqlite_schema",
};

static const char *const query_words[] = { "select", "with", "values", "from", "table", "pivot", "unpivot" };

/* A data-changing statement can follow a WITH: one of these words, outside parentheses, after the one that closes. */
static const char *const changing_words[] = { "insert", "update", "delete", "merge" };
/* clang-format on */

/* Most words differ in their first byte, a letter in all of ours: nothing else is looked at
 * then. */
static bool is_text(struct str text, const char *word)
{
    return text.len > 0 && (text.ptr[0] | 0x20) == word[0] && str_equal_nocase(text, str_of(word));
}

static bool is_word(struct guard_token token, const char *word)
{
    return token.kind == GUARD_WORD && is_text(token.text, word);
}

static bool is_symbol(struct guard_token token, char symbol)
{
    return token.kind == GUARD_SYMBOL && token.text.ptr[0] == symbol;
}

static bool is_one_of(struct guard_token token, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_word(token, words[i])) {
            return true;
        }
    }
    return false;
}

/* A database that a client may change has sequences, which its statements may ask. */
static bool is_of_sequence(struct guard_token token)
{
    return str_equal_nocase(token.text, STR("nextval")) ||
           str_equal_nocase(token.text, STR("currval"));
}

static bool is_listed(struct str text, const char *const *list)
{
    for (; *list != NULL; list++) {
        if (is_text(text, *list)) {
            return true;
        }
    }
    return false;
}

static bool is_refused_name(struct guard_token token, struct guard_leave leave)
{
    if (token.kind != GUARD_WORD && token.kind != GUARD_QUOTED) {
        return false;
    }
    if (leave.sequences && is_of_sequence(token)) {
        return false;
    }
    return is_listed(token.text, guard_refused_names);
}

/* Refused functions that are views too; other names may well be tables of the client's. */
static bool is_refused_view(struct guard_token token)
{
    static const char *const views[] = {"duckdb_databases", "duckdb_logs", "pg_settings",
                                        "pragma_database_list"};
    for (size_t i = 0; i < COUNT_OF(views); i++) {
        if ((token.kind == GUARD_WORD || token.kind == GUARD_QUOTED) &&
            is_text(token.text, views[i])) {
            return true;
        }
    }
    return false;
}

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_name_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || c >= 0x80;
}

/* The engine takes these for white space outside quotes, wherever they stand in a word: U+00A0,
 * U+2000 to U+200B, U+202F, U+205F, U+2060, U+3000 and U+FEFF. Returns the length of one, or 0. */
static size_t unicode_space_size(struct str text)
{
    static const char *const spaces[] = {"\xc2\xa0",     "\xe2\x80\xaf", "\xe2\x81\x9f",
                                         "\xe2\x81\xa0", "\xe3\x80\x80", "\xef\xbb\xbf"};
    if (text.len == 0 || (unsigned char)text.ptr[0] < 0x80) {
        return 0; /* nearly always, and asked for each byte */
    }
    for (size_t i = 0; i < COUNT_OF(spaces); i++) {
        if (str_starts(text, str_of(spaces[i]))) {
            return strlen(spaces[i]);
        }
    }
    bool of_block = text.len >= 3 && str_starts(text, STR("\xe2\x80"));
    return of_block && (unsigned char)text.ptr[2] <= 0x8b ? 3 : 0;
}

/* The length of a block comment, nested ones included; 0 when it does not end. */
static size_t block_comment_size(struct str text)
{
    unsigned depth = 0;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.ptr[i] == '/' && text.ptr[i + 1] == '*') {
            depth++;
            i++;
        } else if (text.ptr[i] == '*' && text.ptr[i + 1] == '/') {
            i++;
            if (--depth == 0) {
                return i + 1;
            }
        }
    }
    return 0;
}

static bool skip_blank(struct str *rest, struct err *err)
{
    while (rest->len > 0) {
        size_t size = unicode_space_size(*rest);
        if (is_space((unsigned char)rest->ptr[0])) {
            size = 1;
        } else if (size > 0) {
            /* taken below */
        } else if (str_starts(*rest, STR("--"))) {
            while (size < rest->len && rest->ptr[size] != '\n' && rest->ptr[size] != '\r') {
                size++;
            }
        } else if (str_starts(*rest, STR("/*"))) {
            size = block_comment_size(*rest);
            if (size == 0) {
                return err_set(err, ERR_INVALID, "the statement has a comment that does not end");
            }
        } else {
            return true;
        }
        *rest = str_from(*rest, size);
    }
    return true;
}

/* Length up to and with the closing quote, doubled quotes skipped; with_escapes also skips what
 * follows a backslash. */
static size_t quoted_size(struct str text, char quote, bool with_escapes)
{
    for (size_t i = 1; i < text.len; i++) {
        if (with_escapes && text.ptr[i] == '\\') {
            i++;
        } else if (text.ptr[i] == quote) {
            if (i + 1 < text.len && text.ptr[i + 1] == quote) {
                i++;
            } else {
                return i + 1;
            }
        }
    }
    return 0;
}

/* $$...$$ or $tag$...$tag$: 0 when it is not one (a parameter such as $1), SIZE_MAX when it does
 * not end. */
static size_t dollar_string_size(struct str text)
{
    size_t tag = 1;
    while (tag < text.len && text.ptr[tag] != '$' && is_name_byte((unsigned char)text.ptr[tag])) {
        tag++;
    }
    bool digit_first = tag > 1 && text.ptr[1] >= '0' && text.ptr[1] <= '9';
    if (tag >= text.len || text.ptr[tag] != '$' || digit_first) {
        return 0;
    }
    struct str mark = str_first(text, tag + 1);
    struct str body = str_from(text, mark.len);
    size_t end = str_find(body, mark);
    return end == body.len ? SIZE_MAX : mark.len + end + mark.len;
}

static bool take(struct str *rest, enum guard_token_kind kind, size_t size, struct guard_token *ret)
{
    *ret = (struct guard_token){.kind = kind, .text = str_first(*rest, size)};
    *rest = str_from(*rest, size);
    return true;
}

static bool take_quoted(struct str *rest, size_t lead, char quote, bool with_escapes,
                        struct guard_token *ret, struct err *err)
{
    size_t size = quoted_size(str_from(*rest, lead), quote, with_escapes);
    if (size == 0) {
        return err_set(err, ERR_INVALID, "the statement has a quote that does not end");
    }
    (void)take(rest, quote == '"' ? GUARD_QUOTED : GUARD_STRING, lead + size, ret);
    if (quote == '"') {
        ret->text = str_make(ret->text.ptr + 1, ret->text.len - 2);
    }
    return true;
}

bool guard_next(struct str *rest, struct guard_token *ret_token, struct err *err)
{
    if (!skip_blank(rest, err)) {
        return false;
    }
    if (rest->len == 0) {
        *ret_token = (struct guard_token){.kind = GUARD_END};
        return true;
    }
    unsigned char c = (unsigned char)rest->ptr[0];
    if (c == '\0') {
        return err_set(err, ERR_INVALID, "the statement has a NUL byte");
    }
    if (c == '\'' || c == '"') {
        return take_quoted(rest, 0, (char)c, false, ret_token, err);
    }
    if ((c == 'e' || c == 'E') && rest->len > 1 && rest->ptr[1] == '\'') {
        return take_quoted(rest, 1, '\'', true, ret_token, err);
    }
    if (c == '$') {
        size_t size = dollar_string_size(*rest);
        if (size == SIZE_MAX) {
            return err_set(err, ERR_INVALID, "the statement has a quote that does not end");
        }
        return take(rest, size > 0 ? GUARD_STRING : GUARD_SYMBOL, size > 0 ? size : 1, ret_token);
    }
    size_t size = 0;
    while (
        size < rest->len && is_name_byte((unsigned char)rest->ptr[size]) &&
        ((unsigned char)rest->ptr[size] < 0x80 || unicode_space_size(str_from(*rest, size)) == 0)) {
        size++;
    }
    if (size == 0) {
        return take(rest, GUARD_SYMBOL, 1, ret_token);
    }
    return take(rest, c >= '0' && c <= '9' ? GUARD_NUMBER : GUARD_WORD, size, ret_token);
}

/* 'memory_limit') behind current_setting( : the name must stand there, not be computed. */
static bool names_readable_setting(struct guard_token function, struct str arguments)
{
    struct guard_token name;
    struct guard_token end;
    struct err ignored;
    if (!str_equal_nocase(function.text, STR("current_setting")) ||
        !guard_next(&arguments, &name, &ignored) || !guard_next(&arguments, &end, &ignored) ||
        name.kind != GUARD_STRING || !is_symbol(end, ')')) {
        return false;
    }
    struct str text = name.text;
    return text.ptr[0] == '\'' &&
           is_listed(str_make(text.ptr + 1, text.len - 2), guard_readable_settings);
}

static bool refuse_statement(struct guard_token token, struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "%.*s statements are not allowed: send one SELECT, WITH, VALUES, FROM, PIVOT, "
                   "DESCRIBE, SHOW, SUMMARIZE or EXPLAIN",
                   STR_ARG(str_first(token.text, 40)));
}

/* EXPLAIN [ANALYZE] [(options)] statement: what is explained must be a query. */
static bool check_explained(struct str rest, struct guard_token token, struct err *err)
{
    if (is_word(token, "explain") && !guard_next(&rest, &token, err)) {
        return false;
    }
    if (is_word(token, "analyze") && !guard_next(&rest, &token, err)) {
        return false;
    }
    bool options = is_symbol(token, '(');
    struct str ahead = rest;
    struct guard_token inner;
    if (options) {
        if (!guard_next(&ahead, &inner, err)) {
            return false;
        }
        options = !is_one_of(inner, query_words, COUNT_OF(query_words)) && !is_symbol(inner, '(');
    }
    while (options && !is_symbol(token, ')') && token.kind != GUARD_END) {
        if (!guard_next(&rest, &token, err)) {
            return false;
        }
    }
    if (options && !guard_next(&rest, &token, err)) {
        return false;
    }
    bool query = is_symbol(token, '(') || is_one_of(token, query_words, COUNT_OF(query_words));
    return query || refuse_statement(token, err);
}

static bool check_first(struct str rest, struct guard_token token, struct err *err)
{
    if (token.kind == GUARD_END || is_symbol(token, ';')) {
        return err_set(err, ERR_INVALID, "the statement is empty");
    }
    if (is_symbol(token, '(')) {
        return true;
    }
    if (!is_one_of(token, first_words, COUNT_OF(first_words))) {
        return refuse_statement(token, err);
    }
    return !is_word(token, "explain") || check_explained(rest, token, err);
}

bool guard_is_reading(struct str statement)
{
    struct guard_token token;
    struct err ignored;
    return guard_next(&statement, &token, &ignored) && check_first(statement, token, &ignored);
}

/* What the walk over the tokens has seen so far. */
struct walk {
    struct guard_token last;
    struct guard_leave leave;
    unsigned depth;
    bool pivot;
    bool catalog;
    bool inner; /* a parenthesis has just opened: a statement may begin */
    bool bare;  /* a DESCRIBE, of what is not said yet */
};

/* Names of the engine's catalog, quoted or not. */
static bool is_catalog_name(struct guard_token token)
{
    token.kind = token.kind == GUARD_QUOTED ? GUARD_WORD : token.kind;
    return is_one_of(token, catalog_words, COUNT_OF(catalog_words));
}

/* SHOW, and DESCRIBE or DESC of nothing, list every table; all three are reserved words. */
static void step_listing(struct walk *walk, struct guard_token token)
{
    bool ends = is_symbol(token, ')') || is_symbol(token, ';') || is_word(token, "tables");
    walk->catalog = walk->catalog || is_catalog_name(token) || (walk->bare && ends) ||
                    (walk->inner && is_word(token, "show"));
    walk->bare = walk->inner && (is_word(token, "describe") || is_word(token, "desc"));
    walk->inner = is_symbol(token, '(');
}

static bool check_name(const struct walk *walk, struct guard_token token, struct str rest,
                       struct err *err)
{
    bool call = is_symbol(token, '(') && is_refused_name(walk->last, walk->leave) &&
                !(walk->leave.settings && names_readable_setting(walk->last, rest));
    if (call || is_refused_view(token)) {
        struct str name = call ? walk->last.text : token.text;
        return err_set(err, ERR_INVALID, "'%.*s' is not available here", STR_ARG(name));
    }
    return true;
}

static bool check_pair(const struct walk *walk, struct guard_token token, struct str rest,
                       struct err *err)
{
    if (!check_name(walk, token, rest, err)) {
        return false;
    }
    if (walk->depth == 0 && is_symbol(walk->last, ')') &&
        is_one_of(token, changing_words, COUNT_OF(changing_words))) {
        return refuse_statement(token, err);
    }
    return true;
}

static void step(struct walk *walk, struct guard_token token)
{
    if (is_symbol(token, '(')) {
        walk->depth++;
    } else if (is_symbol(token, ')') && walk->depth > 0) {
        walk->depth--;
    }
    walk->pivot = walk->pivot || is_word(token, "pivot") || is_word(token, "unpivot");
    step_listing(walk, token);
    walk->last = token;
}

bool guard_check_names(struct str text, struct guard_leave leave, struct err *err)
{
    struct walk walk = {.leave = leave};
    struct guard_token token;
    do {
        if (!guard_next(&text, &token, err) || !check_name(&walk, token, text, err)) {
            return false;
        }
        walk.last = token;
    } while (token.kind != GUARD_END);
    return true;
}

bool guard_check_with(struct str statement, struct guard_leave leave,
                      struct guard_verdict *ret_verdict, struct err *err)
{
    if (statement.len > GUARD_STATEMENT_SIZE_MAX) {
        return err_set(err, ERR_TOO_LARGE, "the statement is larger than %d bytes",
                       GUARD_STATEMENT_SIZE_MAX);
    }
    struct str rest = statement;
    struct guard_token token;
    struct walk walk = {.inner = true, .leave = leave};
    if (!guard_next(&rest, &token, err) || !check_first(rest, token, err)) {
        return false;
    }
    bool ended = false;
    while (token.kind != GUARD_END) {
        if (ended && !is_symbol(token, ';')) {
            return err_set(err, ERR_INVALID, "only one statement is allowed");
        }
        ended = ended || is_symbol(token, ';');
        if (!check_pair(&walk, token, rest, err)) {
            return false;
        }
        step(&walk, token);
        if (!guard_next(&rest, &token, err)) {
            return false;
        }
    }
    *ret_verdict =
        (struct guard_verdict){.pivot = walk.pivot, .catalog = walk.catalog || walk.bare};
    return true;
}

bool guard_check(struct str statement, struct guard_verdict *ret_verdict, struct err *err)
{
    return guard_check_with(statement, (struct guard_leave){0}, ret_verdict, err);
}
