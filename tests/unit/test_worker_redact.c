#include "test.h"

#include "buf.h"
#include "worker_redact.h"

#define HIDDEN "(not shown)"

struct redact_row {
    const char *statement;
    const char *shown;
};

/* clang-format off */
static const struct redact_row rows[] = {
    { "SELECT 1", "SELECT ?" },
    { "select a from t", "select a from t" },
    { "  SELECT\n\t a ,b  FROM\r\nt ; ", "SELECT a ,b FROM t ;" },
    { "SELECT count(*) FROM t WHERE a.b='x' AND c>=10", "SELECT count(*) FROM t WHERE a.b=? AND c>=?" },
    { "SELECT -1, +1.5, .5, 5., 1.5e-3, 1e10, 1.e+5, 0x1F, 1_000", "SELECT -?, +?, .?, ?, ?, ?, ?, ?, ?" },
    { "SELECT 1-1, 1+1, 5e-3, 5-e", "SELECT ?-?, ?+?, ?, ?-e" },
    { "SELECT 1.5.2", "SELECT ?" },
    { "SELECT a[1:2], b.c", "SELECT a[?:?], b.c" },
    { "SELECT 'it''s', E'\\'x', $$y$$, $t$ $$ z $t$, x'41', ''", "SELECT ?, ?, ?, ?, x?, ?" },
    { "SELECT \"a \"\"b\", \"c;\"", "SELECT \"a \"\"b\", \"c;\"" },
    { "SELECT a--b\n,c/* d /* e */ f */,g", "SELECT a ,c ,g" },
    { "SELECT/**/1", "SELECT ?" },
    { "/* secret */ SELECT 1 -- secret", "SELECT ?" },
    { "SELECT $1, $12, $name, ?", "SELECT $1, $12, $name, ?" },
    { "SELECT $123456, $1a", "SELECT $?, $?" },
    { "SELECT {'a': 1, b: [2, 3]}", "SELECT {?: ?, b: [?, ?]}" },
    { "SELECT 'a' 'b'", "SELECT ? ?" },
    { "SELECT 'a\\' -- secret'", "SELECT ?" },
    { "SELECT DATE '2024-01-01', INTERVAL 5 DAY", "SELECT DATE ?, INTERVAL ? DAY" },
    { "SELECT caf\xc3\xa9\xc2\xa0,b", "SELECT caf\xc3\xa9 ,b" },
    { "EXPLAIN ANALYZE SELECT 5", "EXPLAIN ANALYZE SELECT ?" },
    { "(SELECT 5)", "(SELECT ?)" },
    { "SELECT 1;;", "SELECT ?;;" },
    { "insert into t (a) values ('x', 5)", "insert into t (a) values (?, ?)" },
    { "UPDATE t SET a = 'x' WHERE b < 7", "UPDATE t SET a = ? WHERE b < ?" },
    { "DELETE FROM t WHERE a = $1; ", "DELETE FROM t WHERE a = $1;" },
    /* no statement that reads, not one, or not to be cut into tokens */
    { "", HIDDEN },
    { ";", HIDDEN },
    { "secret", HIDDEN },
    { "CREATE SECRET s (TYPE s3, KEY_ID secret)", HIDDEN },
    { "SET s3_secret_access_key = secret", HIDDEN },
    { "EXPLAIN CREATE SECRET s (SECRET secret)", HIDDEN },
    { "DELETE FROM t; CREATE SECRET s (SECRET secret)", HIDDEN },
    { "SELECT 1; CREATE SECRET s (SECRET secret)", HIDDEN },
    { "SELECT 'secret", HIDDEN },
    { "SELECT \"secret", HIDDEN },
    { "SELECT $$secret", HIDDEN },
    { "SELECT /* secret", HIDDEN },
    { "SELECT E'secret\\'", HIDDEN },
    /* where the engine's scanner sees a string that ours does not */
    { "SELECT 1e'a\\' secret --'", HIDDEN },
    { "SELECT 1e5e'a\\' secret --'", HIDDEN },
    { "SELECT 1$$'$$ secret --'", HIDDEN },
};
/* clang-format on */

static struct str redact(struct buf *into, struct str statement, size_t size_max)
{
    buf_init(into, size_max);
    worker_redact(statement, size_max, into);
    return buf_str(into);
}

TEST(statements)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct buf into;
        struct str shown = redact(&into, str_of(rows[i].statement), 4096);
        if (!str_equal(shown, str_of(rows[i].shown))) {
            TEST_FAIL("%s: '%.*s', not '%s'", rows[i].statement, STR_ARG(shown), rows[i].shown);
        }
        buf_finish(&into);
    }
}

TEST(what_was_in_the_buffer_stays)
{
    struct buf into;
    buf_init(&into, 4096);
    buf_append_text(&into, "before: ");
    worker_redact(STR("SELECT 1"), 64, &into);
    CHECK_STR(buf_str(&into), "before: SELECT ?");
    worker_redact(STR("DROP TABLE t"), 64, &into);
    CHECK_STR(buf_str(&into), "before: SELECT ?" HIDDEN);
    buf_finish(&into);
}

TEST(a_nul_byte_hides_all)
{
    struct buf into;
    CHECK_STR(redact(&into, STR("SELECT a\0, b"), 64), HIDDEN);
    buf_finish(&into);
}

TEST(a_long_statement_is_cut_after_a_token)
{
    struct buf into;
    CHECK_STR(redact(&into, STR("SELECT abcdef, ghijkl"), 18), "SELECT abcdef, ...");
    buf_finish(&into);
    CHECK_STR(redact(&into, STR("SELECT abcdefghijklmnopqrstuvwxyz"), 20), "SELECT ...");
    buf_finish(&into);
    CHECK_STR(redact(&into, STR("SELECT abcdefgh"), 18), "SELECT abcdefgh");
    buf_finish(&into);
}

/* What is cut off is not looked at, so it is not shown either. */
TEST(behind_the_cut_nothing_is_shown)
{
    struct buf into;
    CHECK_STR(redact(&into, STR("SELECT abcdef, ghijkl 'secret"), 18), "SELECT abcdef, ...");
    buf_finish(&into);
}

TEST(a_statement_that_is_too_large_is_not_shown)
{
    struct buf text;
    struct buf into;
    buf_init(&text, 2 << 20);
    buf_append_text(&text, "SELECT 1 --");
    while (text.len <= 1 << 20) {
        buf_append_text(&text, "xxxxxxxxxxxxxxxx");
    }
    CHECK_STR(redact(&into, buf_str(&text), 64), HIDDEN);
    buf_finish(&into);
    buf_finish(&text);
}

/* One long literal in each of its forms, at every cut: nothing of it is ever seen. */
TEST(no_cut_of_a_statement_shows_a_literal)
{
    static const char *const statements[] = {
        "SELECT 'QQ''QQ' AS a, E'QQ\\'QQ' AS b",
        "SELECT $$QQ$$, $t$QQ$QQ$t$ -- QQ\n, c",
        "SELECT a /* QQ /* QQ */ QQ */ FROM b WHERE c IN ('QQ', x'QQ')",
    };
    for (size_t i = 0; i < COUNT_OF(statements); i++) {
        struct str whole = str_of(statements[i]);
        for (size_t size = 0; size <= whole.len; size++) {
            struct buf into;
            struct str shown = redact(&into, str_first(whole, size), 4096);
            if (str_find(shown, STR("QQ")) < shown.len) {
                TEST_FAIL("%.*s shows %.*s", (int)size, whole.ptr, STR_ARG(shown));
            }
            buf_finish(&into);
        }
    }
}

static const struct test_case cases[] = {
    TEST_CASE(statements),
    TEST_CASE(what_was_in_the_buffer_stays),
    TEST_CASE(a_nul_byte_hides_all),
    TEST_CASE(a_long_statement_is_cut_after_a_token),
    TEST_CASE(behind_the_cut_nothing_is_shown),
    TEST_CASE(a_statement_that_is_too_large_is_not_shown),
    TEST_CASE(no_cut_of_a_statement_shows_a_literal),
};

TEST_MAIN(cases)
