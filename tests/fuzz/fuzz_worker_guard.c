/* The judge of statements: whatever the bytes, it says yes or no with a message, its tokens lie one
 * after the other within the statement, and what it allows has one statement without a call that is
 * refused. A verdict does not depend on white space at the ends, nor on a semicolon. */
#include "worker_guard.h"

#include "buf.h"

#include <stdlib.h>

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

static bool is_symbol(struct guard_token token, char symbol)
{
    return token.kind == GUARD_SYMBOL && token.text.ptr[0] == symbol;
}

static void check_token(struct str before, struct str rest, struct guard_token token)
{
    MUST(rest.len < before.len);
    MUST(rest.ptr + rest.len == before.ptr + before.len);
    MUST(token.text.ptr >= before.ptr);
    MUST(token.text.ptr + token.text.len <= rest.ptr);
    MUST(token.kind != GUARD_SYMBOL || token.text.len == 1);
    MUST(token.kind == GUARD_QUOTED || token.text.len > 0);
}

/* Whether all tokens can be read; *ret_statements counts what semicolons part, empty ones not. */
static bool walk(struct str rest, size_t *ret_statements)
{
    struct guard_token token;
    struct err err;
    bool inside = false;
    *ret_statements = 0;
    for (;;) {
        struct str before = rest;
        if (!guard_next(&rest, &token, &err)) {
            MUST(err.kind == ERR_INVALID && err.message[0] != '\0');
            return false;
        }
        if (token.kind == GUARD_END) {
            MUST(rest.len == 0);
            return true;
        }
        check_token(before, rest, token);
        *ret_statements += !inside && !is_symbol(token, ';') ? 1 : 0;
        inside = !is_symbol(token, ';');
    }
}

/* The text with something before and behind it has the same verdict. */
static void check_surrounded(struct str statement, bool allowed)
{
    struct buf text;
    struct guard_verdict verdict;
    struct err err;
    buf_init(&text, statement.len + 32);
    buf_append_text(&text, "/* /**/ */ \t");
    buf_append(&text, statement);
    /* A comment may be open to the end of its line. */
    buf_append_text(&text, "\n;");
    MUST(!allowed || guard_check(buf_str(&text), &verdict, &err));
    buf_finish(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str statement = str_make((const char *)data, size);
    struct guard_verdict verdict;
    struct err err = {0};
    size_t statements;
    bool readable = walk(statement, &statements);
    bool allowed = guard_check(statement, &verdict, &err);
    if (allowed) {
        MUST(readable);
        MUST(statements == 1);
    } else {
        MUST(err.kind == ERR_INVALID || err.kind == ERR_TOO_LARGE);
        MUST(err.message[0] != '\0');
    }
    if (size <= GUARD_STATEMENT_SIZE_MAX / 2) {
        check_surrounded(statement, allowed);
    }
    return 0;
}
