#include "test.h"

#include "worker_guard.h"

/* One row: a statement, and for a refused one a part of the message. */
struct refused_row {
    const char *statement;
    const char *message;
};

#define NOT_HERE "is not available here"
#define NOT_ALLOWED "statements are not allowed"
#define ONLY_ONE "only one statement"

/* clang-format off */
static const char *const allowed[] = {
    /* what may begin a statement, in any case */
    "SELECT 1", "select 1", "SeLeCt 1", "WITH a AS (SELECT 1) SELECT * FROM a", "VALUES (1), (2)",
    "FROM t", "FROM t SELECT a", "TABLE t", "PIVOT t ON a USING sum(b)", "UNPIVOT t ON a, b INTO NAME n VALUE v",
    "DESCRIBE t", "DESC t", "DESCRIBE SELECT 1", "SHOW TABLES", "SUMMARIZE t", "SUMMARIZE SELECT 1",
    "(SELECT 1) UNION (SELECT 2)", "((SELECT 1))", "WITH RECURSIVE a AS (SELECT 1 UNION SELECT n FROM a) FROM a",
    "WITH c AS (SELECT 1) TABLE c", "WITH c AS (SELECT 1) FROM c",
    /* EXPLAIN of queries */
    "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1", "explain analyze from t", "EXPLAIN (FORMAT JSON) SELECT 1",
    "EXPLAIN (ANALYZE, FORMAT JSON) SELECT 1", "EXPLAIN ANALYZE (FORMAT JSON) SELECT 1", "EXPLAIN (SELECT 1)",
    "EXPLAIN ((SELECT 1))", "EXPLAIN ANALYZE (SELECT 1)", "EXPLAIN WITH a AS (SELECT 1) SELECT * FROM a",
    "EXPLAIN /* why */ VALUES (1)", "EXPLAIN PIVOT t ON a USING sum(b)",
    /* white space of Unicode, and words of changes as names */
    "SELECT\xc2\xa0" "1", "SELECT a AS delete FROM t", "SELECT (1) AS update", "\xef\xbb\xbf" "SELECT 1",
    /* the end, white space, comments */
    "SELECT 1;", "SELECT 1;;  ;", "SELECT 1; -- that was it", "SELECT 1; /* that was it */", "  \t\r\n\v\fSELECT 1",
    "-- first\nSELECT 1", "--\rSELECT 1", "/* first */ SELECT 1", "/* a /* b */ c */ SELECT 1", "/**/SELECT/**/1",
    "SELECT 1 -- ; DROP TABLE t", "SELECT 1 /* ; DROP TABLE t */", "SELECT /* it's */ 1", "SELECT -- it's\n 1",
    "SELECT 4 / 2 * 3", "SELECT - - 1", "SELECT 5 -1",
    /* strings and names hide what is in them */
    "SELECT '; DROP TABLE t'", "SELECT 'it''s; '", "SELECT \";\" FROM t", "SELECT \"a\"\"; b\" FROM t",
    "SELECT $$; DROP TABLE t$$", "SELECT $a$ $$; $b$ $a$", "SELECT E'it\\'s; '", "SELECT e'\\\\'", "SELECT E'a''b;'",
    "SELECT '\\'", "SELECT '/*', '*/'", "SELECT '--'", "SELECT x'00'", "SELECT $1 + $2", "SELECT a$b$c FROM t",
    "SELECT 'getenv(1)'", "SELECT $$read_csv('x')$$", "SELECT /* getenv( */ 1", "SELECT '\xf0\x9f\x98\x80' AS \"\xc3\xa9\"",
    "SELECT caf\xc3\xa9 FROM t",
    /* tables and columns may have the name of a function that is refused */
    "FROM query", "SELECT * FROM query", "SELECT query FROM t", "SELECT query, glob FROM query", "FROM summary",
    "SELECT summary(a) FROM t", "SELECT * FROM glob ORDER BY sleep", "SELECT getenv FROM t", "SELECT t.query FROM t",
    "SELECT \"read_csv\" FROM t", "WITH query AS (SELECT 1) FROM query", "SELECT 1 AS current_query",
    "SELECT read_csv_x(1)", "SELECT my_getenv(1)", "SELECT duckdb_x FROM t", "FROM pg_class", "FROM duckdb_tables",
    "FROM duckdb_functions()", "FROM range(3)", "SELECT unnest([1, 2])", "FROM generate_series(1, 3)",
    /* words of changes, where they change nothing */
    "SELECT update FROM t", "SELECT \"insert\" FROM t", "SELECT 'INSERT INTO t'", "SELECT delete, a FROM t",
    "FROM (SELECT 1) AS update", "SELECT replace(a, 'insert into', '') FROM t", "SELECT 1 /* DELETE FROM t */",
};

static const struct refused_row refused[] = {
    /* a call is a call behind any white space, a change is one behind any WITH */
    { "SELECT getenv\xc2\xa0('x')", NOT_HERE }, { "FROM duckdb_logs\xef\xbb\xbf", NOT_HERE },
    { "WITH c AS (SELECT 1) UPDATE t SET a = 1", NOT_ALLOWED },
    { "EXPLAIN ANALYZE WITH c AS (SELECT 1) UPDATE t SET a = 1", NOT_ALLOWED },
    { "SELECT 1,\xc2\xa0" "e'\\' pivot , ' ; DROP TABLE t --'", ONLY_ONE },
    /* nothing */
    { "", "empty" }, { "   ", "empty" }, { ";", "empty" }, { ";SELECT 1", "empty" }, { "-- only", "empty" },
    { "/* only */", "empty" },
    /* other statements */
    { "INSERT INTO t VALUES (1)", NOT_ALLOWED }, { "update t set a = 1", NOT_ALLOWED }, { "DELETE FROM t", NOT_ALLOWED },
    { "MERGE INTO t USING u ON true", NOT_ALLOWED }, { "CREATE TABLE t (a INT)", NOT_ALLOWED }, { "DROP TABLE t", NOT_ALLOWED },
    { "ALTER TABLE t ADD a INT", NOT_ALLOWED }, { "COPY t TO 'x'", NOT_ALLOWED }, { "ATTACH 'x'", NOT_ALLOWED },
    { "DETACH x", NOT_ALLOWED }, { "USE x", NOT_ALLOWED }, { "SET threads = 9", NOT_ALLOWED }, { "RESET threads", NOT_ALLOWED },
    { "PRAGMA version", NOT_ALLOWED }, { "CALL enable_logging()", NOT_ALLOWED }, { "INSTALL httpfs", NOT_ALLOWED },
    { "LOAD httpfs", NOT_ALLOWED }, { "EXPORT DATABASE 'x'", NOT_ALLOWED }, { "IMPORT DATABASE 'x'", NOT_ALLOWED },
    { "CHECKPOINT", NOT_ALLOWED }, { "VACUUM", NOT_ALLOWED }, { "BEGIN", NOT_ALLOWED }, { "COMMIT", NOT_ALLOWED },
    { "PREPARE p AS SELECT 1", NOT_ALLOWED }, { "EXECUTE p", NOT_ALLOWED }, { "DEALLOCATE p", NOT_ALLOWED },
    { "TRUNCATE t", NOT_ALLOWED }, { "COMMENT ON TABLE t IS 'x'", NOT_ALLOWED }, { "GRANT x", NOT_ALLOWED },
    { "1", NOT_ALLOWED }, { "'SELECT'", NOT_ALLOWED }, { "\"SELECT\" 1", NOT_ALLOWED }, { "SELECTED 1", NOT_ALLOWED },
    { "SEL/**/ECT 1", NOT_ALLOWED }, { "$$SELECT 1$$", NOT_ALLOWED }, { "/* a */ -- b\n DROP TABLE t", NOT_ALLOWED },
    { "\xef\xbb\xbf" "DROP TABLE t", NOT_ALLOWED },
    /* changes behind a WITH */
    { "WITH c AS (SELECT 1) INSERT INTO t SELECT * FROM c", NOT_ALLOWED },
    { "WITH c AS (SELECT 1) insert/**/into t SELECT 1", NOT_ALLOWED },
    { "WITH c AS (SELECT 1) INSERT OR REPLACE INTO t SELECT 1", NOT_ALLOWED },
    { "WITH c AS (SELECT 1) DELETE FROM t", NOT_ALLOWED }, { "WITH c AS (SELECT 1) DELETE -- x\nFROM t", NOT_ALLOWED },
    { "WITH c AS (SELECT 1) MERGE INTO t USING c ON true", NOT_ALLOWED },
    { "EXPLAIN ANALYZE WITH c AS (SELECT 1) INSERT INTO t SELECT 1", NOT_ALLOWED },
    /* EXPLAIN of anything else */
    { "EXPLAIN", NOT_ALLOWED }, { "EXPLAIN ANALYZE", NOT_ALLOWED }, { "EXPLAIN DELETE FROM t", NOT_ALLOWED },
    { "EXPLAIN ANALYZE DELETE FROM t", NOT_ALLOWED }, { "EXPLAIN ANALYZE INSERT INTO t VALUES (1)", NOT_ALLOWED },
    { "EXPLAIN (ANALYZE) UPDATE t SET a = 1", NOT_ALLOWED }, { "EXPLAIN (FORMAT JSON) DROP TABLE t", NOT_ALLOWED },
    { "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1", NOT_ALLOWED }, { "EXPLAIN COPY t TO 'x'", NOT_ALLOWED },
    { "EXPLAIN (FORMAT JSON", NOT_ALLOWED }, { "EXPLAIN ANALYZE CALL enable_logging()", NOT_ALLOWED },
    { "EXPLAIN SET threads = 9", NOT_ALLOWED }, { "EXPLAIN ; SELECT 1", NOT_ALLOWED },
    /* several statements */
    { "SELECT 1; SELECT 2", ONLY_ONE }, { "SELECT 1;DROP TABLE t", ONLY_ONE }, { "SELECT 1; /* */ ; SELECT 2", ONLY_ONE },
    { "SELECT 1; -- x\nSELECT 2", ONLY_ONE }, { "SELECT ';'; SELECT 2", ONLY_ONE }, { "SELECT '\\'; SELECT 2", ONLY_ONE },
    { "SELECT $$ $$; SELECT 2", ONLY_ONE }, { "SELECT E'\\''; SELECT 2", ONLY_ONE }, { "SELECT /* /* */ */ 1; SELECT 2", ONLY_ONE },
    { "SELECT a$$; SELECT 2 --$$", ONLY_ONE }, { "SELECT 1; 'x'", ONLY_ONE },
    /* what does not end */
    { "SELECT 'a", "quote that does not end" }, { "SELECT 'a''", "quote that does not end" },
    { "SELECT \"a", "quote that does not end" }, { "SELECT E'a\\'", "quote that does not end" },
    { "SELECT E'a\\", "quote that does not end" }, { "SELECT $$a", "quote that does not end" },
    { "SELECT $a$ $b$", "quote that does not end" }, { "SELECT $$a$", "quote that does not end" },
    { "/* SELECT 1", "comment that does not end" }, { "SELECT 1 /*", "comment that does not end" },
    { "SELECT 1 /*/", "comment that does not end" }, { "SELECT 1 /* /* */", "comment that does not end" },
    { "SELECT 1; /*", "comment that does not end" },
    /* functions that reach out, in every dress */
    { "SELECT * FROM read_csv('x')", NOT_HERE }, { "SELECT * FROM READ_CSV('x')", NOT_HERE },
    { "FROM Read_Parquet(['x'])", NOT_HERE }, { "FROM \"read_csv\"('x')", NOT_HERE }, { "FROM read_text ('x')", NOT_HERE },
    { "FROM read_text/* a */('x')", NOT_HERE }, { "FROM read_text -- a\n ('x')", NOT_HERE },
    { "FROM read_blob\n\t('x')", NOT_HERE }, { "FROM main.glob('*')", NOT_HERE }, { "FROM system.main.glob('*')", NOT_HERE },
    { "FROM system . main . \"GLOB\" /**/ ('*')", NOT_HERE }, { "SELECT getenv('HOME')", NOT_HERE },
    { "SELECT 'HOME'.getenv()", NOT_HERE }, { "SELECT ('threads').current_setting()", NOT_HERE },
    { "SELECT a.getvariable() FROM t", NOT_HERE }, { "SELECT current_setting('threads')", NOT_HERE },
    { "FROM query('SELECT 1')", NOT_HERE }, { "FROM query_table('t')", NOT_HERE }, { "SELECT (SELECT * FROM query('x'))", NOT_HERE },
    { "FROM json_execute_serialized_sql('x')", NOT_HERE }, { "SELECT sleep_ms(1000)", NOT_HERE }, { "SELECT pg_sleep(1)", NOT_HERE },
    { "FROM enable_logging()", NOT_HERE }, { "FROM duckdb_settings()", NOT_HERE }, { "SELECT nextval('s')", NOT_HERE },
    { "VALUES (getenv('HOME'))", NOT_HERE }, { "TABLE t ORDER BY getenv('x')", NOT_HERE },
    { "EXPLAIN SELECT getenv('x')", NOT_HERE }, { "DESCRIBE FROM read_csv('x')", NOT_HERE },
    { "SUMMARIZE FROM read_csv('x')", NOT_HERE }, { "PIVOT read_csv('x') ON a", NOT_HERE },
    { "(SELECT getenv('x'))", NOT_HERE }, { "SELECT list_transform([1], x -> getenv('x'))", NOT_HERE },
    { "SELECT 1; getenv('x')", ONLY_ONE },
    /* the engine's views need no parentheses */
    { "FROM duckdb_databases", NOT_HERE }, { "SELECT * FROM DuckDB_Logs", NOT_HERE }, { "FROM \"duckdb_databases\"", NOT_HERE },
    { "FROM main.duckdb_databases", NOT_HERE }, { "FROM pg_settings", NOT_HERE }, { "TABLE pragma_database_list", NOT_HERE },
    { "DESCRIBE duckdb_logs", NOT_HERE }, { "SELECT * FROM pg_catalog.pg_settings", NOT_HERE },
};
/* clang-format on */

static_assert(COUNT_OF(allowed) + COUNT_OF(refused) >= 120, "the tables are worth having");

TEST(allowed_statements)
{
    for (size_t i = 0; i < COUNT_OF(allowed); i++) {
        struct guard_verdict verdict;
        struct err err = {0};
        if (!guard_check(str_of(allowed[i]), &verdict, &err)) {
            TEST_FAIL("refused: %s (%s)", allowed[i], err.message);
        }
    }
}

TEST(refused_statements)
{
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct guard_verdict verdict;
        struct err err = {0};
        if (guard_check(str_of(refused[i].statement), &verdict, &err)) {
            TEST_FAIL("allowed: %s", refused[i].statement);
        }
        if (err.kind != ERR_INVALID || strstr(err.message, refused[i].message) == NULL) {
            TEST_FAIL("%s: %s", refused[i].statement, err.message);
        }
    }
}

TEST(a_refusal_names_what_it_refuses)
{
    struct guard_verdict verdict;
    struct err err = {0};
    CHECK(!guard_check(STR("SELECT Main.\"GetEnv\" ('x')"), &verdict, &err));
    CHECK_STR(str_of(err.message), "'GetEnv' is not available here");
    CHECK(!guard_check(STR("drop TABLE t"), &verdict, &err));
    CHECK(str_starts(str_of(err.message), STR("drop statements are not allowed")));
}

TEST(a_nul_byte_is_refused_anywhere_outside_quotes)
{
    struct guard_verdict verdict;
    struct err err = {0};
    CHECK(!guard_check(STR("SELECT\0 1"), &verdict, &err));
    CHECK(strstr(err.message, "NUL") != NULL);
    CHECK(!guard_check(STR("SELECT 1\0; DROP TABLE t"), &verdict, &err));
    CHECK(!guard_check(STR("\0"), &verdict, &err));
    CHECK(!guard_check(STR("SELECT 1;\0"), &verdict, &err));
}

TEST(pivot_is_told)
{
    static const struct {
        const char *statement;
        bool pivot;
    } rows[] = {
        {"SELECT 1", false},
        {"PIVOT t ON a USING sum(b)", true},
        {"unpivot t ON a INTO NAME n VALUE v", true},
        {"SELECT * FROM (PIVOT t ON a)", true},
        {"WITH p AS (FROM t PIVOT (sum(a) FOR b IN (1, 2))) FROM p", true},
        {"SELECT 'pivot'", false},
        {"SELECT \"pivot\" FROM t", false},
        {"SELECT pivots FROM t -- pivot", false},
    };
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct guard_verdict verdict = {.pivot = !rows[i].pivot};
        struct err err;
        CHECK_OK(guard_check(str_of(rows[i].statement), &verdict, &err), err);
        CHECK(verdict.pivot == rows[i].pivot);
    }
}

TEST(a_statement_has_a_largest_size)
{
    static char text[GUARD_STATEMENT_SIZE_MAX + 1];
    struct guard_verdict verdict;
    struct err err = {0};
    memset(text, ' ', sizeof(text));
    memcpy(text, "SELECT 1", 8);
    CHECK_OK(guard_check(str_make(text, sizeof(text) - 1), &verdict, &err), err);
    CHECK(!guard_check(str_make(text, sizeof(text)), &verdict, &err));
    CHECK(err.kind == ERR_TOO_LARGE);
}

/* Smaller than the largest: the thread sanitizer looks at the whole rest for each dollar quote. */
enum {
    HOSTILE_SIZE = 1 << 16
};

/* A statement of one kind of byte: nothing may take longer than the number of bytes. */
TEST(hostile_statements_are_judged_quickly)
{
    static const char *const repeated[] = {"(",  ")",  "/*", "*/", "'",  "\"",   "$",
                                           "$$", "$a", "--", "e'", "\\", "/**/", "SELECT "};
    static char text[HOSTILE_SIZE];
    int64_t began_ms = test_now_ms();
    for (size_t i = 0; i < COUNT_OF(repeated); i++) {
        struct guard_verdict verdict;
        struct err err;
        size_t size = strlen(repeated[i]);
        memcpy(text, "SELECT ", 7);
        for (size_t at = 7; at < sizeof(text); at++) {
            text[at] = repeated[i][(at - 7) % size];
        }
        (void)!guard_check(str_make(text, sizeof(text)), &verdict, &err);
    }
    CHECK(test_now_ms() - began_ms < 20000);
}

static const struct test_case cases[] = {
    TEST_CASE(allowed_statements),
    TEST_CASE(refused_statements),
    TEST_CASE(a_refusal_names_what_it_refuses),
    TEST_CASE(a_nul_byte_is_refused_anywhere_outside_quotes),
    TEST_CASE(pivot_is_told),
    TEST_CASE(a_statement_has_a_largest_size),
    TEST_CASE(hostile_statements_are_judged_quickly),
};

TEST_MAIN(cases)
