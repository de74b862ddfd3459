#include "worker_rules.h"

#include "worker_guard.h"
#include "worker_text.h"

/* What a first word means. A word that is not in the table is refused too. */
enum meaning {
    MEANING_CHANGE,      /* data */
    MEANING_DEFINE,      /* CREATE, ALTER, DROP: of what is judged too */
    MEANING_TRANSACTION, /* BEGIN and so on */
    MEANING_PLAIN,       /* CHECKPOINT, and nothing behind it */
    MEANING_REFUSED,
};

struct first_word {
    const char *word;
    enum meaning meaning;
    const char *instead; /* of a refused one */
};

#define SETTINGS_ARE_FIXED "settings of a database are fixed by the server"
#define NO_PREPARING "send the statement itself, with params"

/* clang-format off */
static const struct first_word first_words[] = {
    { "insert",     MEANING_CHANGE, NULL },
    { "update",     MEANING_CHANGE, NULL },
    { "delete",     MEANING_CHANGE, NULL },
    { "merge",      MEANING_CHANGE, NULL },
    { "truncate",   MEANING_CHANGE, NULL },
    { "with",       MEANING_CHANGE, NULL },
    { "comment",    MEANING_CHANGE, NULL },
    { "analyze",    MEANING_CHANGE, NULL },
    { "vacuum",     MEANING_CHANGE, NULL },
    { "create",     MEANING_DEFINE, NULL },
    { "alter",      MEANING_DEFINE, NULL },
    { "drop",       MEANING_DEFINE, NULL },
    { "begin",      MEANING_TRANSACTION, NULL },
    { "start",      MEANING_TRANSACTION, NULL },
    { "commit",     MEANING_TRANSACTION, NULL },
    { "end",        MEANING_TRANSACTION, NULL },
    { "rollback",   MEANING_TRANSACTION, NULL },
    { "abort",      MEANING_TRANSACTION, NULL },
    { "checkpoint", MEANING_PLAIN, NULL },
    { "copy",       MEANING_REFUSED, "use POST .../import and POST .../export" },
    { "export",     MEANING_REFUSED, "use POST .../export, or POST .../backup for all of it" },
    { "import",     MEANING_REFUSED, "use POST .../import, or POST .../restore for all of it" },
    { "attach",     MEANING_REFUSED, "send the request to the other database" },
    { "detach",     MEANING_REFUSED, "send the request to the other database" },
    { "use",        MEANING_REFUSED, "write the schema in front of the table's name" },
    { "install",    MEANING_REFUSED, "the extensions of the server are what there is" },
    { "load",       MEANING_REFUSED, "the extensions of the server are what there is" },
    { "set",        MEANING_REFUSED, SETTINGS_ARE_FIXED },
    { "reset",      MEANING_REFUSED, SETTINGS_ARE_FIXED },
    { "pragma",     MEANING_REFUSED, SETTINGS_ARE_FIXED "; use DESCRIBE, SHOW or SUMMARIZE to look" },
    { "call",       MEANING_REFUSED, "use SELECT" },
    { "prepare",    MEANING_REFUSED, NO_PREPARING },
    { "execute",    MEANING_REFUSED, NO_PREPARING },
    { "deallocate", MEANING_REFUSED, NO_PREPARING },
    { "force",      MEANING_REFUSED, "use CHECKPOINT" },
};

static const char *const defined_kinds[] = {
    "table", "view", "index", "schema", "sequence", "type", "macro", "function",
};

/* Between CREATE or DROP and what it is of. */
static const char *const adjectives[] = { "or", "replace", "temp", "temporary", "local", "unique", "recursive", "unlogged" };

static const char *const changing_words[] = { "insert", "update", "delete", "merge" };
/* clang-format on */

static bool is_among(struct guard_token token, const char *const *words, size_t count)
{
    for (size_t i = 0; token.kind == GUARD_WORD && i < count; i++) {
        if (str_equal_nocase(token.text, str_of(words[i]))) {
            return true;
        }
    }
    return false;
}

static bool is_symbol(struct guard_token token, char symbol)
{
    return token.kind == GUARD_SYMBOL && token.text.ptr[0] == symbol;
}

static bool refuse(struct str word, const char *why, struct err *err)
{
    return err_set(err, ERR_FORBIDDEN, "%.*s statements are not allowed here: %s",
                   STR_ARG(str_first(word, 40)), why);
}

/* Takes the next statement off the front of *rest: up to a semicolon, which ends one wherever it
 * stands. An empty statement, and the end, have no token. */
static bool next_statement(struct str *rest, struct str *ret_statement, size_t *ret_tokens,
                           struct err *err)
{
    struct guard_token token;
    *ret_statement = *rest;
    *ret_tokens = 0;
    for (;;) {
        struct str before = *rest;
        if (!guard_next(rest, &token, err)) {
            return false;
        }
        if (token.kind == GUARD_END || is_symbol(token, ';')) {
            *ret_statement = str_first(*ret_statement, (size_t)(before.ptr - ret_statement->ptr));
            return true;
        }
        ++*ret_tokens;
    }
}

static const struct first_word *find_first_word(struct guard_token token)
{
    for (size_t i = 0; token.kind == GUARD_WORD && i < COUNT_OF(first_words); i++) {
        if (str_equal_nocase(token.text, str_of(first_words[i].word))) {
            return &first_words[i];
        }
    }
    return NULL;
}

/* CREATE OR REPLACE TEMP TABLE: of what, behind all that may stand between. */
static bool check_definition(struct str rest, struct guard_token first, struct err *err)
{
    struct guard_token token;
    do {
        if (!guard_next(&rest, &token, err)) {
            return false;
        }
    } while (is_among(token, adjectives, COUNT_OF(adjectives)));
    return is_among(token, defined_kinds, COUNT_OF(defined_kinds)) ||
           err_set(err, ERR_FORBIDDEN,
                   "%.*s %.*s is not allowed here: tables, views, indexes, schemas, sequences, "
                   "types and macros are what may be defined",
                   STR_ARG(str_first(first.text, 40)), STR_ARG(str_first(token.text, 40)));
}

/* A WITH whose statement changes data: one of these words behind the parenthesis that closes. */
static bool with_changes(struct str rest)
{
    struct guard_token token = {0};
    struct guard_token last = {0};
    unsigned depth = 0;
    struct err ignored;
    while (guard_next(&rest, &token, &ignored) && token.kind != GUARD_END) {
        if (depth == 0 && is_symbol(last, ')') &&
            is_among(token, changing_words, COUNT_OF(changing_words))) {
            return true;
        }
        depth += is_symbol(token, '(');
        depth -= is_symbol(token, ')') && depth > 0;
        last = token;
    }
    return false;
}

static bool check_change(struct str statement, struct str rest, size_t tokens,
                         struct guard_token first, struct rules_verdict *verdict, struct err *err)
{
    const struct first_word *word = find_first_word(first);
    if (word == NULL) {
        return refuse(first.text, "send a query, or a statement that changes data or definitions",
                      err);
    }
    if (word->meaning == MEANING_REFUSED || (word->meaning == MEANING_PLAIN && tokens > 1)) {
        const char *instead = word->instead != NULL ? word->instead : "nothing may stand behind it";
        return refuse(first.text, instead, err);
    }
    if (word->meaning == MEANING_DEFINE && !check_definition(rest, first, err)) {
        return false;
    }
    verdict->reads_only = false;
    verdict->transaction = verdict->transaction || word->meaning == MEANING_TRANSACTION;
    return guard_check_names(statement, (struct guard_leave){.sequences = true, .settings = true},
                             err);
}

/* The guard's refusals are of statements and functions; what it cannot read is no text at all. */
static bool check_statement(struct str statement, size_t tokens, enum worker_role role,
                            struct rules_verdict *verdict, struct err *err)
{
    struct guard_verdict reading = {0};
    struct guard_token first = {0};
    struct str rest = statement;
    bool writer = role == WORKER_ROLE_WRITE || role == WORKER_ROLE_ADMIN;
    if (!guard_next(&rest, &first, err)) {
        return false;
    }
    bool with = first.kind == GUARD_WORD && str_equal_nocase(first.text, STR("with"));
    bool reads = guard_is_reading(statement) && !(writer && with && with_changes(rest));
    /* EXPLAIN of a change has a first word of its own: the guard's words are the best. */
    reads = reads || (first.kind == GUARD_WORD && str_equal_nocase(first.text, STR("explain")));
    if (writer && !reads) {
        return check_change(statement, rest, tokens, first, verdict, err);
    }
    struct guard_leave leave = {.sequences = writer, .settings = true};
    bool good = guard_check_with(statement, leave, &reading, err);
    if (!good && err->kind == ERR_INVALID) {
        err->kind = ERR_FORBIDDEN;
    }
    verdict->pivot = verdict->pivot || reading.pivot;
    return good;
}

#ifdef EIDER_TEST_LAYERS
static bool left_out;

void rules_leave_out(void)
{
    left_out = true;
}
#endif

bool rules_check(struct str text, enum worker_role role, struct rules_verdict *ret_verdict,
                 struct err *err)
{
#ifdef EIDER_TEST_LAYERS
    if (left_out) { /* as many statements as the engine makes of it, like those of a PIVOT */
        *ret_verdict = (struct rules_verdict){.pivot = true};
        return true;
    }
#endif
    struct rules_verdict verdict = {.reads_only = true};
    if (text.len > GUARD_STATEMENT_SIZE_MAX) {
        return err_set(err, ERR_TOO_LARGE, "the statement is larger than %d bytes",
                       GUARD_STATEMENT_SIZE_MAX);
    }
    while (text.len > 0) {
        struct str statement;
        size_t tokens;
        if (!next_statement(&text, &statement, &tokens, err)) {
            return false;
        }
        if (tokens > 0 && !check_statement(statement, tokens, role, &verdict, err)) {
            return false;
        }
        verdict.statements += tokens > 0;
    }
    *ret_verdict = verdict;
    return verdict.statements > 0 || err_set(err, ERR_INVALID, "there is no statement");
}

/* A writer's text may ask a sequence, which changes it: for that there is the stricter guard. */
bool worker_only_reads(struct str text)
{
    struct rules_verdict verdict;
    struct err ignored;
    return rules_check(text, WORKER_ROLE_READ, &verdict, &ignored);
}

bool worker_controls_transaction(struct str text)
{
    struct guard_token token;
    struct err ignored;
    bool begins = true; /* a statement does, with the next token */
    while (guard_next(&text, &token, &ignored) && token.kind != GUARD_END) {
        const struct first_word *word = begins ? find_first_word(token) : NULL;
        if (word != NULL && word->meaning == MEANING_TRANSACTION) {
            return true;
        }
        begins = is_symbol(token, ';');
    }
    return false;
}

/* CALL is what the engine makes of CHECKPOINT. The statements of a PIVOT are helpers of its own. */
bool rules_allow_type(duckdb_statement_type type, enum worker_role role,
                      const struct rules_verdict *verdict)
{
    static const duckdb_statement_type changing[] = {
        DUCKDB_STATEMENT_TYPE_INSERT,      DUCKDB_STATEMENT_TYPE_UPDATE,
        DUCKDB_STATEMENT_TYPE_DELETE,      DUCKDB_STATEMENT_TYPE_MERGE_INTO,
        DUCKDB_STATEMENT_TYPE_CREATE,      DUCKDB_STATEMENT_TYPE_CREATE_FUNC,
        DUCKDB_STATEMENT_TYPE_ALTER,       DUCKDB_STATEMENT_TYPE_DROP,
        DUCKDB_STATEMENT_TYPE_ANALYZE,     DUCKDB_STATEMENT_TYPE_VACUUM,
        DUCKDB_STATEMENT_TYPE_TRANSACTION, DUCKDB_STATEMENT_TYPE_CALL,
    };
#ifdef EIDER_TEST_LAYERS
    if (left_out) {
        return true;
    }
#endif
    if (type == DUCKDB_STATEMENT_TYPE_SELECT || type == DUCKDB_STATEMENT_TYPE_EXPLAIN) {
        return true;
    }
    if (verdict->pivot &&
        (type == DUCKDB_STATEMENT_TYPE_CREATE || type == DUCKDB_STATEMENT_TYPE_TRANSACTION)) {
        return true;
    }
    bool found = false;
    for (size_t i = 0; !found && i < COUNT_OF(changing); i++) {
        found = type == changing[i];
    }
    return found && role != WORKER_ROLE_READ && !verdict->reads_only;
}
