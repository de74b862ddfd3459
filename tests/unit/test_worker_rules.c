#include "test.h"

#include "worker_guard.h"
#include "worker_rules.h"
#include "worker_text.h"

/* clang-format off */

/* What a role that reads may send: several statements too. */
static const char *const readable[] = {
    "SELECT 1", "SELECT 1; SELECT 2", "; SELECT 1;;", "SELECT ';'; FROM t", "WITH a AS (SELECT 1) SELECT * FROM a; DESCRIBE t",
    "EXPLAIN ANALYZE SELECT 1; SHOW TABLES", "SELECT 'INSERT INTO t'", "SELECT update FROM t", "SUMMARIZE t", "VALUES (1)",
    "PIVOT t ON a USING sum(b)", "(SELECT 1)", "SELECT /* ; DROP TABLE t */ 1", "FROM nextval",
    "SELECT current_setting('memory_limit')", "SELECT Current_Setting /* x */ ( 'THREADS' ), 1",
};

/* What only the others may send. */
static const char *const changing[] = {
    "INSERT INTO t VALUES (1)", "insert or replace into t select 1", "UPDATE t SET a = 1", "DELETE FROM t", "TRUNCATE t",
    "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", "WITH c AS (SELECT 1) INSERT INTO t SELECT * FROM c",
    "WITH c AS (SELECT 1) UPDATE t SET a = 1", "CREATE TABLE t (a INT)", "CREATE OR REPLACE TEMP TABLE t AS SELECT 1",
    "CREATE TEMPORARY VIEW v AS SELECT 1", "CREATE UNIQUE INDEX i ON t(a)", "CREATE SCHEMA s", "CREATE SEQUENCE q",
    "CREATE TYPE e AS ENUM ('a')", "CREATE MACRO m(a) AS a + 1", "CREATE FUNCTION m(a) AS TABLE SELECT a", "DROP TABLE IF EXISTS t",
    "DROP MACRO TABLE m", "ALTER TABLE t ADD COLUMN b INT", "ALTER VIEW v RENAME TO w", "COMMENT ON TABLE t IS 'x'",
    "ANALYZE", "VACUUM", "CHECKPOINT", "CHECKPOINT;", "BEGIN", "BEGIN TRANSACTION; INSERT INTO t VALUES (1); COMMIT",
    "START TRANSACTION", "ROLLBACK", "ABORT", "END", "SELECT 1; DROP TABLE t", "SELECT nextval('q')",
    "INSERT INTO t VALUES (nextval('q'))", "/* a */ INSERT /* b */ INTO t VALUES (1)", "\xef\xbb\xbf" "DROP TABLE t",
    "--\nDELETE FROM t", "INSERT INTO copy VALUES ('COPY t TO x')", "CREATE TABLE \"attach\" (\"load\" INT)",
    "INSERT INTO t SELECT read_csv FROM u",
};

/* What nobody may send, with a part of the refusal. */
static const struct {
    const char *text;
    const char *message;
} refused[] = {
    { "COPY t TO 'x'", "POST .../export" }, { "COPY t FROM 'x'", "POST .../import" }, { "COPY (SELECT 1) TO 'x'", "POST .../export" },
    { "ATTACH 'x' AS x", "other database" }, { "DETACH x", "other database" }, { "USE x", "schema" }, { "INSTALL httpfs", "extensions" },
    { "FORCE INSTALL httpfs", "not allowed" }, { "LOAD httpfs", "extensions" }, { "SET threads = 9", "fixed" },
    { "SET VARIABLE a = 1", "fixed" }, { "RESET threads", "fixed" }, { "PRAGMA version", "fixed" }, { "CALL enable_logging()", "SELECT" },
    { "EXPORT DATABASE 'x'", "POST" }, { "IMPORT DATABASE 'x'", "POST" }, { "PREPARE p AS COPY t TO 'x'", "params" },
    { "EXECUTE p", "params" }, { "DEALLOCATE p", "params" }, { "FORCE CHECKPOINT", "CHECKPOINT" }, { "CHECKPOINT memory", "nothing may stand" },
    { "GRANT x", "not allowed" }, { "1", "not allowed" },
    /* secrets and what else may be defined */
    { "CREATE SECRET s (TYPE s3)", "may be defined" }, { "CREATE PERSISTENT SECRET s (TYPE s3)", "may be defined" },
    { "CREATE OR REPLACE TEMPORARY SECRET s (TYPE s3)", "may be defined" }, { "DROP SECRET s", "may be defined" },
    { "DROP PERSISTENT SECRET s", "may be defined" }, { "CREATE DATABASE x", "may be defined" }, { "ALTER DATABASE x SET ALIAS TO y", "may be defined" },
    { "CREATE/**/OR/**/REPLACE/**/SECRET s ()", "may be defined" }, { "CREATE \"TABLE\" t (a INT)", "may be defined" },
    /* behind something harmless */
    { "SELECT 1; COPY t TO 'x'", "export" }, { "INSERT INTO t VALUES (1);\xc2\xa0" "ATTACH 'x'", "other database" },
    { "SELECT ';'; -- x\n/* ; */ SET threads = 9", "fixed" }, { "SELECT $$;$$; PRAGMA version", "fixed" },
    { "SELECT E'\\''; LOAD httpfs", "extensions" }, { "SELECT \"a;\"; INSTALL httpfs", "extensions" },
    { "BEGIN; IMPORT DATABASE 'x'; COMMIT", "import" }, { "EXPLAIN COPY t TO 'x'", "not allowed" },
    { "EXPLAIN ANALYZE INSERT INTO t VALUES (1)", "not allowed" }, { "EXPLAIN ANALYZE WITH c AS (SELECT 1) DELETE FROM t", "not allowed" },
    /* functions that reach out, also where they are kept for later */
    { "INSERT INTO t SELECT * FROM enable_logging('x')", "is not available here" },
    { "SELECT current_setting('home_directory')", "is not available here" },
    { "SELECT current_setting('temp_directory')", "is not available here" },
    { "SELECT current_setting('mem' || 'ory_limit')", "is not available here" },
    { "SELECT current_setting(E'memory_limit')", "is not available here" },
    { "SELECT 'threads'.current_setting()", "is not available here" },
    { "SELECT current_setting('threads', current_setting('x'))", "is not available here" },
    { "SELECT current_setting('threads'), current_setting('x')", "is not available here" },
    { "INSERT INTO t SELECT current_setting($1)", "is not available here" },
    { "INSERT INTO t SELECT * FROM read_csv('x')", "is not available here" },
    { "CREATE TABLE t AS FROM read_parquet('x')", "is not available here" }, { "CREATE VIEW v AS FROM \"READ_CSV\" ('x')", "is not available here" },
    { "CREATE MACRO m(p) AS TABLE FROM read_text(p)", "is not available here" }, { "CREATE MACRO m(p) AS getenv/**/(p)", "is not available here" },
    { "CREATE OR REPLACE TEMP MACRO m(p) AS p.getenv()", "is not available here" }, { "UPDATE t SET a = getenv\xe2\x80\x8b('x')", "is not available here" },
    { "DELETE FROM t WHERE a = (SELECT * FROM query('SELECT 1'))", "is not available here" },
    { "CREATE TABLE t (a INT DEFAULT getenv('x'))", "is not available here" }, { "ALTER TABLE t ALTER a SET DEFAULT getenv('x')", "is not available here" },
    { "CREATE TYPE e AS ENUM (SELECT * FROM read_csv('x'))", "is not available here" }, { "CREATE VIEW v AS FROM duckdb_settings()", "is not available here" },
    { "CREATE VIEW v AS FROM duckdb_logs", "is not available here" }, { "WITH c AS (FROM glob('*')) INSERT INTO t FROM c", "is not available here" },
    { "SELECT 1; SELECT getenv('x')", "is not available here" }, { "CREATE INDEX i ON t (getenv('x'))", "is not available here" },
    /* what is no text */
    { "", "no statement" }, { " ; /* x */ ;", "no statement" }, { "INSERT INTO t VALUES ('a", "does not end" },
    { "DROP TABLE t /*", "does not end" }, { "CREATE TABLE \"t", "does not end" }, { "INSERT INTO t VALUES ($$a$)", "does not end" },
};
/* clang-format on */

static bool allows(const char *text, enum worker_role role, struct rules_verdict *ret_verdict,
                   struct err *err)
{
    return rules_check(str_of(text), role, ret_verdict, err);
}

TEST(who_reads_may_read)
{
    for (size_t i = 0; i < COUNT_OF(readable); i++) {
        struct rules_verdict verdict;
        struct err err = {0};
        if (!allows(readable[i], WORKER_ROLE_READ, &verdict, &err) ||
            !allows(readable[i], WORKER_ROLE_WRITE, &verdict, &err)) {
            TEST_FAIL("refused: %s (%s)", readable[i], err.message);
        }
        if (!verdict.reads_only || !worker_only_reads(str_of(readable[i]))) {
            TEST_FAIL("said to change something: %s", readable[i]);
        }
    }
}

TEST(who_writes_may_change)
{
    for (size_t i = 0; i < COUNT_OF(changing); i++) {
        struct rules_verdict verdict;
        struct err err = {0};
        if (!allows(changing[i], WORKER_ROLE_WRITE, &verdict, &err) ||
            !allows(changing[i], WORKER_ROLE_ADMIN, &verdict, &err)) {
            TEST_FAIL("refused: %s (%s)", changing[i], err.message);
        }
        if (allows(changing[i], WORKER_ROLE_READ, &verdict, &err) || err.kind != ERR_FORBIDDEN) {
            TEST_FAIL("a role that reads may send: %s", changing[i]);
        }
        if (worker_only_reads(str_of(changing[i]))) {
            TEST_FAIL("said to change nothing: %s", changing[i]);
        }
    }
}

TEST(nobody_reaches_out)
{
    for (size_t i = 0; i < COUNT_OF(refused); i++) {
        struct rules_verdict verdict;
        struct err err = {0};
        if (allows(refused[i].text, WORKER_ROLE_READ, &verdict, &err) ||
            allows(refused[i].text, WORKER_ROLE_ADMIN, &verdict, &err)) {
            TEST_FAIL("allowed: %s", refused[i].text);
        }
        if (strstr(err.message, refused[i].message) == NULL) {
            TEST_FAIL("%s: %s", refused[i].text, err.message);
        }
    }
}

/* Every refused function, in the body of a view and of a macro. */
TEST(every_refused_function)
{
    for (const char *const *name = guard_refused_names; *name != NULL; name++) {
        char text[160];
        struct rules_verdict verdict;
        struct err err;
        bool sequence = strcmp(*name, "nextval") == 0 || strcmp(*name, "currval") == 0;
        (void)snprintf(text, sizeof(text), "CREATE VIEW v AS SELECT * FROM %s('x')", *name);
        if (allows(text, WORKER_ROLE_ADMIN, &verdict, &err) != sequence) {
            TEST_FAIL("%s", text);
        }
        (void)snprintf(text, sizeof(text), "CREATE MACRO m(x) AS \"%s\" -- a\n (x)", *name);
        if (allows(text, WORKER_ROLE_ADMIN, &verdict, &err) != sequence) {
            TEST_FAIL("%s", text);
        }
    }
}

TEST(what_a_verdict_says)
{
    struct rules_verdict verdict;
    struct err err;
    CHECK(allows("SELECT 1;; SELECT ';';", WORKER_ROLE_READ, &verdict, &err));
    CHECK_U64(verdict.statements, 2);
    CHECK(!verdict.pivot && !verdict.transaction);
    CHECK(allows("SELECT 1; PIVOT t ON a USING sum(b)", WORKER_ROLE_READ, &verdict, &err));
    CHECK(verdict.pivot);
    CHECK(allows("BEGIN; SELECT 1", WORKER_ROLE_WRITE, &verdict, &err));
    CHECK(verdict.transaction && !verdict.reads_only);
}

TEST(control_of_transactions)
{
    static const char *const with[] = {"COMMIT",
                                       "begin",
                                       "SELECT 1; ROLLBACK",
                                       "/* a */ End",
                                       "START TRANSACTION",
                                       "; ;abort",
                                       "SELECT ';';\xc2\xa0"
                                       "Commit"};
    static const char *const without[] = {"SELECT 'COMMIT'", "SELECT commit FROM t", "-- COMMIT\n",
                                          "INSERT INTO \"begin\" VALUES (1)", "SELECT $$;COMMIT$$"};
    for (size_t i = 0; i < COUNT_OF(with); i++) {
        if (!worker_controls_transaction(str_of(with[i]))) {
            TEST_FAIL("not found: %s", with[i]);
        }
    }
    for (size_t i = 0; i < COUNT_OF(without); i++) {
        if (worker_controls_transaction(str_of(without[i]))) {
            TEST_FAIL("found: %s", without[i]);
        }
    }
}

TEST(types_of_the_engine)
{
    struct rules_verdict reading = {.reads_only = true};
    struct rules_verdict pivoting = {.reads_only = true, .pivot = true};
    struct rules_verdict writing = {0};
    CHECK(rules_allow_type(DUCKDB_STATEMENT_TYPE_SELECT, WORKER_ROLE_READ, &reading));
    CHECK(!rules_allow_type(DUCKDB_STATEMENT_TYPE_CREATE, WORKER_ROLE_READ, &reading));
    CHECK(rules_allow_type(DUCKDB_STATEMENT_TYPE_CREATE, WORKER_ROLE_READ, &pivoting));
    CHECK(!rules_allow_type(DUCKDB_STATEMENT_TYPE_INSERT, WORKER_ROLE_WRITE, &reading));
    CHECK(rules_allow_type(DUCKDB_STATEMENT_TYPE_INSERT, WORKER_ROLE_WRITE, &writing));
    CHECK(!rules_allow_type(DUCKDB_STATEMENT_TYPE_COPY, WORKER_ROLE_ADMIN, &writing));
    CHECK(!rules_allow_type(DUCKDB_STATEMENT_TYPE_PRAGMA, WORKER_ROLE_ADMIN, &writing));
    CHECK(!rules_allow_type(DUCKDB_STATEMENT_TYPE_ATTACH, WORKER_ROLE_ADMIN, &writing));
}

static const struct test_case cases[] = {
    TEST_CASE(who_reads_may_read),  TEST_CASE(who_writes_may_change),
    TEST_CASE(nobody_reaches_out),  TEST_CASE(every_refused_function),
    TEST_CASE(what_a_verdict_says), TEST_CASE(control_of_transactions),
    TEST_CASE(types_of_the_engine),
};
TEST_MAIN(cases)
