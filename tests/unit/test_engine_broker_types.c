/* A worker's word for a column's type becomes part of statements in other workers: what the server
 * keeps must be one type and nothing else. */
#include "hostile_job.h"

static void report_type(struct hostile_worker *worker)
{
    const struct worker_schema_column column = {.name = STR("c"), .type = worker->argument};
    struct buf payload;
    hostile_resolve(worker);
    buf_init(&payload, 1 << 16);
    worker_put_text(&payload, STR("lake://declared"));
    worker_put_schema(&payload, &(struct worker_schema){.columns = &column, .columns_count = 1});
    hostile_send_buf(worker, WORKER_SCHEMAS, &payload);
    hostile_outcome(worker, 1);
}

static const struct hostile_script scripts[] = {
    {"honest", be_honest},
    {"column type:", report_type},
};

static bool is_kept(struct job *job, const char *type)
{
    char script[4096];
    (void)snprintf(script, sizeof(script), "column type:%s", type);
    return run(job, script) && job->schemas == 1;
}

TEST(types_as_the_engine_writes_them_are_kept)
{
    static const char *const good[] = {
        "BIGINT",
        "VARCHAR",
        "DECIMAL(38,10)",
        "TIMESTAMP WITH TIME ZONE",
        "INTEGER[]",
        "INTEGER[3]",
        "BIGINT[][]",
        "STRUCT(a INTEGER, b VARCHAR[])",
        "MAP(VARCHAR, BIGINT)",
        "STRUCT(\"a b\" INTEGER)",
        "STRUCT(\"a\"\"b\" INTEGER)",
        "ENUM('a', 'b''c')",
        "STRUCT(\"x); DROP\" INTEGER)",
        "UNION(num INTEGER, str VARCHAR)",
    };
    struct job job = {.engine = engine};
    for (size_t i = 0; i < COUNT_OF(good); i++) {
        CHECK(is_kept(&job, good[i]));
    }
}

/* Each would be more than a type where it is put into a statement of another worker. */
TEST(texts_that_are_more_than_a_type_are_forgotten)
{
    static const char *const bad[] = {
        "",
        " ",
        "INTEGER; COPY x TO 'y'",
        "INTEGER, b VARCHAR",
        "INTEGER AS x",
        "INTEGER) FROM x",
        "INTEGER)",
        "(INTEGER",
        "STRUCT(a INTEGER",
        "INTEGER[",
        "INTEGER -- x",
        "INTEGER /* x */",
        "INTEGER 'x'",
        "\"INTEGER\"",
        "'INTEGER'",
        "STRUCT(\"a INTEGER)",
        "ENUM('a)",
        "INTEGER\n",
        "INTEGER AS a, (SELECT 1)",
        "INTEGER DEFAULT 1",
        "INTEGER::VARCHAR",
        "a.b",
        "INTEGER{}",
        "INTEGER FROM",
        "STRUCT(a INTEGER) AS",
        "INTEGER UNION ALL SELECT 1",
        "()",
        "$$x$$",
    };
    struct job job = {.engine = engine};
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        if (is_kept(&job, bad[i])) {
            TEST_FAIL("kept: %s", bad[i]);
        }
        CHECK(job.outcome.rows == 1); /* forgotten, and no fault of the job's */
    }
}

static const struct test_case cases[] = {
    TEST_CASE(types_as_the_engine_writes_them_are_kept),
    TEST_CASE(texts_that_are_more_than_a_type_are_forgotten),
};

HOSTILE_MAIN(scripts, cases)
