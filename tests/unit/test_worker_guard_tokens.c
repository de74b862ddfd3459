#include "test.h"

#include "worker_guard.h"

/* Tokens as a kind's letter and the text in braces: W word, Q quoted name, S string, N number,
 * Y symbol; `!` where the tokenizer fails. */
struct tokens_row {
    const char *statement;
    const char *tokens;
};

/* clang-format off */
static const struct tokens_row tokens_rows[] = {
    { "", "" },
    { " \t\r\n\v\f", "" },
    { "a", "W{a}" },
    { "a b", "W{a}W{b}" },
    { "_a1$x", "W{_a1$x}" },
    { "caf\xc3\xa9", "W{caf\xc3\xa9}" },
    { "a.b", "W{a}Y{.}W{b}" },
    { "1", "N{1}" },
    { "1.5e+3", "N{1}Y{.}N{5e}Y{+}N{3}" },
    { "1_000", "N{1_000}" },
    { "0x1F", "N{0x1F}" },
    { "a<>b", "W{a}Y{<}Y{>}W{b}" },
    { "a-b", "W{a}Y{-}W{b}" },
    { "a--b", "W{a}" },
    { "a--b\nc", "W{a}W{c}" },
    { "a--b\rc", "W{a}W{c}" },
    { "--", "" },
    { "a/b", "W{a}Y{/}W{b}" },
    { "a/**/b", "W{a}W{b}" },
    { "/* a /* b */ c */d", "W{d}" },
    { "/* -- */a", "W{a}" },
    { "-- /*\na", "W{a}" },
    { "/* ' */a", "W{a}" },
    { "/***/a", "W{a}" },
    { "/*/*/a*/*/b", "W{b}" },
    { "a*/b", "W{a}Y{*}Y{/}W{b}" },
    { "/*", "!" },
    { "/*/", "!" },
    { "/* /* */", "!" },
    { "''", "S{''}" },
    { "'a''b'", "S{'a''b'}" },
    { "'a\\'", "S{'a\\'}" },
    { "'a' 'b'", "S{'a'}S{'b'}" },
    { "'--'", "S{'--'}" },
    { "'/*'", "S{'/*'}" },
    { "'a\nb'", "S{'a\nb'}" },
    { "'", "!" },
    { "'''", "!" },
    { "e''", "S{e''}" },
    { "E'\\''", "S{E'\\''}" },
    { "E'\\\\'", "S{E'\\\\'}" },
    { "E'a''b'", "S{E'a''b'}" },
    { "E'\\'", "!" },
    { "E'\\", "!" },
    { "e 'a'", "W{e}S{'a'}" },
    { "ae'a'", "W{ae}S{'a'}" },
    { "x'00'", "W{x}S{'00'}" },
    { "\"a\"", "Q{a}" },
    { "\"a\"\"b\"", "Q{a\"\"b}" },
    { "\"\"", "Q{}" },
    { "\"a\\\"", "Q{a\\}" },
    { "\"a--b\"", "Q{a--b}" },
    { "\"", "!" },
    { "\"\"\"", "!" },
    { "$$a$$", "S{$$a$$}" },
    { "$$$$", "S{$$$$}" },
    { "$a$b$a$", "S{$a$b$a$}" },
    { "$a$ $$ $b$ $a$c", "S{$a$ $$ $b$ $a$}W{c}" },
    { "$a$b$A$ $a$", "S{$a$b$A$ $a$}" },
    { "$_1$x$_1$", "S{$_1$x$_1$}" },
    { "$\xc3\xa9$x$\xc3\xa9$", "S{$\xc3\xa9$x$\xc3\xa9$}" },
    { "$$'$$", "S{$$'$$}" },
    { "$$", "!" },
    { "$$$", "!" },
    { "$a$b", "!" },
    { "$1", "Y{$}N{1}" },
    { "$1+$2", "Y{$}N{1}Y{+}Y{$}N{2}" },
    { "$a", "Y{$}W{a}" },
    { "$", "Y{$}" },
    { "a$$b", "W{a$$b}" },
    { "(;)", "Y{(}Y{;}Y{)}" },
    { "\\", "Y{\\}" },
    { "\x01", "Y{\x01}" },
};
/* clang-format on */

static char letter_of(enum guard_token_kind kind)
{
    static const char letters[] = {'-', 'W', 'Q', 'S', 'N', 'Y'};
    return letters[kind];
}

/* Reads all tokens into text as the table writes them. */
static struct str read_tokens(struct str rest, char *text, size_t size)
{
    struct guard_token token;
    struct err err;
    size_t used = 0;
    for (;;) {
        if (!guard_next(&rest, &token, &err)) {
            text[used++] = '!';
            break;
        }
        if (token.kind == GUARD_END || used + token.text.len + 4 > size) {
            break;
        }
        used += (size_t)snprintf(text + used, size - used, "%c{%.*s}", letter_of(token.kind),
                                 STR_ARG(token.text));
    }
    return str_make(text, used);
}

TEST(tokens)
{
    for (size_t i = 0; i < COUNT_OF(tokens_rows); i++) {
        char text[256];
        struct str seen = read_tokens(str_of(tokens_rows[i].statement), text, sizeof(text));
        if (!str_equal(seen, str_of(tokens_rows[i].tokens))) {
            TEST_FAIL("%s: %.*s, not %s", tokens_rows[i].statement, STR_ARG(seen),
                      tokens_rows[i].tokens);
        }
    }
}

TEST(a_nul_byte_fails)
{
    char text[64];
    CHECK_STR(read_tokens(STR("a\0b"), text, sizeof(text)), "W{a}!");
    CHECK_STR(read_tokens(STR("\0"), text, sizeof(text)), "!");
    CHECK_U64(read_tokens(STR("'\0'"), text, sizeof(text)).len, 4);
}

TEST(the_end_stays_the_end)
{
    struct str rest = STR("a");
    struct guard_token token;
    struct err err;
    CHECK_OK(guard_next(&rest, &token, &err), err);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(guard_next(&rest, &token, &err), err);
        CHECK(token.kind == GUARD_END);
    }
    rest = (struct str){0};
    CHECK_OK(guard_next(&rest, &token, &err), err);
    CHECK(token.kind == GUARD_END);
}

/* Each statement cut after every byte: no reading beyond the cut, which the sanitizers see since
 * each piece has memory of its own size. */
TEST(every_cut_is_survived)
{
    for (size_t i = 0; i < COUNT_OF(tokens_rows); i++) {
        struct str whole = str_of(tokens_rows[i].statement);
        for (size_t size = 1; size <= whole.len; size++) {
            char piece[64];
            char text[256];
            CHECK(size <= sizeof(piece));
            char *at = piece + sizeof(piece) - size;
            memcpy(at, whole.ptr, size);
            (void)read_tokens(str_make(at, size), text, sizeof(text));
        }
    }
}

static const struct test_case cases[] = {
    TEST_CASE(tokens),
    TEST_CASE(a_nul_byte_fails),
    TEST_CASE(the_end_stays_the_end),
    TEST_CASE(every_cut_is_survived),
};

TEST_MAIN(cases)
