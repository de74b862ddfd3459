#include "worker_redact.h"

#include "worker_guard.h"

#define NOT_SHOWN "(not shown)"
#define CUT "..."

/* Beside what reads. Not CREATE, ALTER, SET and the like, where what is secret may be a plain
 * word. */
static const char *const changing[] = {"insert", "update", "delete", "merge", "truncate"};

/* Where the walk over the tokens is. */
struct redaction {
    struct buf *into;
    size_t start;    /* of the text within `into` */
    size_t size_max; /* of the text */
    const char *end; /* of the last token: what follows at once is one word with it */
    struct guard_token last;
    bool in_number; /* the last tokens were parts of one number, such as 1.5e-3 */
    bool ended;     /* by a semicolon */
    bool cut;
};

static bool is_symbol(struct guard_token token, char symbol)
{
    return token.kind == GUARD_SYMBOL && token.text.ptr[0] == symbol;
}

/* The token with its quotes. */
static struct str whole(struct guard_token token)
{
    return token.kind == GUARD_QUOTED ? str_make(token.text.ptr - 1, token.text.len + 2)
                                      : token.text;
}

static void put(struct redaction *redaction, struct str text)
{
    size_t used = redaction->into->len - redaction->start;
    if (redaction->cut || text.len > redaction->size_max - strlen(CUT) - used) {
        redaction->cut = true;
        return;
    }
    buf_append(redaction->into, text);
}

/* The tokenizer ends a number at its dot and at the sign of its exponent. The pieces are put
 * together on tokens, not on bytes, so that its view of what is a string is never left. */
static bool goes_on(const struct redaction *redaction, struct guard_token token, bool adjacent)
{
    if (!redaction->in_number || !adjacent) {
        return false;
    }
    struct guard_token last = redaction->last;
    if (last.kind == GUARD_SYMBOL) {
        return token.kind == GUARD_NUMBER || token.kind == GUARD_WORD;
    }
    char end = last.text.ptr[last.text.len - 1];
    bool sign = is_symbol(token, '+') || is_symbol(token, '-');
    return is_symbol(token, '.') || (sign && (end == 'e' || end == 'E'));
}

/* $1: the number of a parameter says nothing. */
static bool is_parameter(const struct redaction *redaction, struct guard_token token, bool adjacent)
{
    bool digits = token.text.len <= 5;
    for (size_t i = 0; digits && i < token.text.len; i++) {
        digits = token.text.ptr[i] >= '0' && token.text.ptr[i] <= '9';
    }
    return digits && adjacent && token.kind == GUARD_NUMBER && is_symbol(redaction->last, '$');
}

static void step(struct redaction *redaction, struct guard_token token)
{
    struct str text = whole(token);
    bool adjacent = text.ptr == redaction->end;
    bool literal = token.kind == GUARD_STRING ||
                   (token.kind == GUARD_NUMBER && !is_parameter(redaction, token, adjacent));
    bool more = goes_on(redaction, token, adjacent);
    if (!more && !adjacent && redaction->into->len > redaction->start) {
        put(redaction, STR(" "));
    }
    if (!more) {
        put(redaction, literal ? STR("?") : text);
    }
    redaction->in_number = more || (literal && token.kind == GUARD_NUMBER);
    redaction->ended = redaction->ended || is_symbol(token, ';');
    redaction->last = token;
    redaction->end = text.ptr + text.len;
}

/* The engine's own scanner takes the e of 1e'...' and the dollars of 1$$...$$ for the beginning of
 * a string, ours for a part of the number. The grammar allows neither, and neither is shown. */
static bool is_doubtful(struct guard_token token, struct str rest)
{
    bool quote_follows = rest.len > 0 && rest.ptr[0] == '\'';
    return token.kind == GUARD_NUMBER &&
           (quote_follows || str_find_byte(token.text, '$') < token.text.len);
}

static bool walk(struct redaction *redaction, struct str rest)
{
    struct guard_token token;
    struct err ignored;
    while (!redaction->cut) {
        if (!guard_next(&rest, &token, &ignored)) {
            return false;
        }
        if (token.kind == GUARD_END) {
            return true;
        }
        if (is_doubtful(token, rest) || (redaction->ended && !is_symbol(token, ';'))) {
            return false;
        }
        step(redaction, token);
    }
    return true;
}

static bool may_be_shown(struct str statement)
{
    struct str rest = statement;
    struct guard_token first;
    struct err ignored;
    if (guard_is_reading(statement)) {
        return true;
    }
    bool word = guard_next(&rest, &first, &ignored) && first.kind == GUARD_WORD;
    for (size_t i = 0; word && i < COUNT_OF(changing); i++) {
        if (str_equal_nocase(first.text, str_of(changing[i]))) {
            return true;
        }
    }
    return false;
}

void worker_redact(struct str statement, size_t size_max, struct buf *into)
{
    assert(size_max >= sizeof(NOT_SHOWN) + strlen(CUT));
    struct redaction redaction = {.into = into, .start = into->len, .size_max = size_max};
    bool good = statement.len <= GUARD_STATEMENT_SIZE_MAX && may_be_shown(statement) &&
                walk(&redaction, statement) && !buf_failed(into);
    if (!good) {
        buf_truncate(into, redaction.start);
        buf_append_text(into, NOT_SHOWN);
    } else if (redaction.cut) {
        buf_append_text(into, CUT);
    }
}
