#include "test.h"

#include "ops_running.h"
#include "thread.h"

#include <stdatomic.h>

enum {
    VIEWS_MAX = 64
};

/* What a visit has seen; texts are copied, since they live as long as the visit only. */
struct seen {
    size_t count;
    char ids[VIEWS_MAX][RUNNING_ID_SIZE];
    enum running_state states[VIEWS_MAX];
    struct running_view last;
    char statement[RUNNING_STATEMENT_SIZE_MAX + 1];
};

static void see(void *context, const struct running_view *view)
{
    struct seen *seen = context;
    if (seen->count < VIEWS_MAX) {
        memcpy(seen->ids[seen->count], view->id, RUNNING_ID_SIZE);
        seen->states[seen->count] = view->state;
    }
    seen->last = *view;
    memcpy(seen->statement, view->statement.ptr, view->statement.len);
    seen->statement[view->statement.len] = '\0';
    seen->count++;
}

struct query {
    struct running_query *query;
    struct cancel cancel;
    char id[RUNNING_ID_SIZE];
};

static void enter(struct running *running, struct query *query)
{
    cancel_init(&query->cancel, INT64_MAX);
    running_make_id(query->id);
    struct running_start start = {
        .id = query->id,
        .statement = STR("SELECT ?"),
        .listener = STR("main"),
        .request_id = STR("r"),
        .client = STR("127.0.0.1"),
        .cancel = &query->cancel,
    };
    query->query = running_enter(running, &start);
}

static void end(struct running *running, struct query *query, enum err_kind kind)
{
    running_end(running, query->query, kind);
    cancel_finish(&query->cancel);
}

static struct running *make(unsigned ended_max, int64_t ended_keep_ms)
{
    struct running_options options = {.ended_max = ended_max, .ended_keep_ms = ended_keep_ms};
    return running_create(&options);
}

static struct seen look(struct running *running, struct running_counts *ret_counts)
{
    struct seen seen = {0};
    running_visit(running, VIEWS_MAX, see, &seen, ret_counts);
    return seen;
}

TEST(a_life)
{
    struct running *running = make(10, 60000);
    struct running_counts counts;
    struct query query;
    enter(running, &query);
    struct seen seen = look(running, &counts);
    CHECK_U64(seen.count, 1);
    CHECK_STR(str_of(seen.statement), "SELECT ?");
    CHECK(seen.states[0] == RUNNING_QUEUED);
    CHECK_I64(seen.last.queued_ms, seen.last.elapsed_ms);
    CHECK_U64(counts.queued, 1);
    CHECK_U64(counts.running, 0);

    running_begin(running, query.query);
    struct running_numbers numbers = {.permille = 250, .rows = 7, .read_bytes = 8, .peak_bytes = 9};
    running_progress(running, query.query, &numbers);
    numbers = (struct running_numbers){.permille = 100, .rows = 8};
    running_progress(running, query.query, &numbers);
    running_stream(running, query.query);
    running_sent(running, query.query, 100);
    running_sent(running, query.query, 50);
    seen = look(running, &counts);
    CHECK(seen.states[0] == RUNNING_STREAMING);
    CHECK_U64(seen.last.numbers.permille, 250);
    CHECK_U64(seen.last.numbers.rows, 8);
    CHECK_U64(seen.last.numbers.read_bytes, 8);
    CHECK_U64(seen.last.numbers.peak_bytes, 9);
    CHECK_U64(seen.last.sent_bytes, 150);
    CHECK_U64(counts.queued, 0);
    CHECK_U64(counts.running, 1);

    end(running, &query, ERR_NONE);
    seen = look(running, &counts);
    CHECK(seen.states[0] == RUNNING_DONE);
    CHECK(seen.last.error == ERR_NONE);
    CHECK_U64(seen.last.numbers.permille, 1000);
    CHECK_U64(counts.running, 0);
    running_destroy(running);
}

TEST(how_a_query_ends)
{
    static const struct {
        enum err_kind kind;
        enum running_state state;
    } ends[] = {
        {ERR_NONE, RUNNING_DONE},           {ERR_STOPPED, RUNNING_CANCELLED},
        {ERR_CANCELLED, RUNNING_CANCELLED}, {ERR_TIMEOUT, RUNNING_FAILED},
        {ERR_INVALID, RUNNING_FAILED},
    };
    struct running *running = make(10, 60000);
    for (size_t i = 0; i < COUNT_OF(ends); i++) {
        struct query query;
        struct seen seen = {0};
        enter(running, &query);
        end(running, &query, ends[i].kind);
        CHECK(running_find(running, str_of(query.id), see, &seen));
        CHECK(seen.last.state == ends[i].state);
        CHECK(seen.last.error == ends[i].kind);
    }
    running_destroy(running);
}

TEST(cancelling)
{
    struct running *running = make(10, 60000);
    struct query query;
    struct err err;
    enter(running, &query);
    CHECK(running_cancel(running, STR("0123456789abcdef")) == RUNNING_UNKNOWN);
    CHECK(running_cancel(running, STR("")) == RUNNING_UNKNOWN);
    CHECK_OK(cancel_check(&query.cancel, &err), err);
    CHECK(running_cancel(running, str_of(query.id)) == RUNNING_ASKED);
    CHECK(!cancel_check(&query.cancel, &err));
    CHECK(err.kind == ERR_STOPPED);
    CHECK(running_cancel(running, str_of(query.id)) == RUNNING_ASKED);
    end(running, &query, ERR_STOPPED);
    CHECK(running_cancel(running, str_of(query.id)) == RUNNING_HAS_ENDED);
    running_destroy(running);
}

TEST(the_newest_comes_first)
{
    struct running *running = make(10, 60000);
    struct running_counts counts;
    struct query queries[3];
    for (size_t i = 0; i < 3; i++) {
        enter(running, &queries[i]);
    }
    end(running, &queries[1], ERR_NONE);
    struct seen seen = look(running, &counts);
    CHECK_U64(seen.count, 3);
    for (size_t i = 0; i < 3; i++) {
        CHECK_STR(str_of(seen.ids[i]), queries[2 - i].id);
    }
    seen = (struct seen){0};
    running_visit(running, 2, see, &seen, &counts);
    CHECK_U64(seen.count, 2);
    CHECK_U64(counts.queued, 2);
    end(running, &queries[0], ERR_NONE);
    end(running, &queries[2], ERR_NONE);
    running_destroy(running);
}

TEST(of_the_ended_the_last_are_kept)
{
    struct running *running = make(3, 60000);
    struct running_counts counts;
    struct query slow;
    struct query queries[6];
    enter(running, &slow);
    for (size_t i = 0; i < 6; i++) {
        enter(running, &queries[i]);
        int64_t now_ms = test_now_ms();
        end(running, &queries[i], ERR_NONE);
        CHECK_WITHIN(1000, test_now_ms() > now_ms); /* each ends in a millisecond of its own */
    }
    struct seen seen = look(running, &counts);
    CHECK_U64(seen.count, 4);
    CHECK_STR(str_of(seen.ids[0]), queries[5].id);
    CHECK_STR(str_of(seen.ids[2]), queries[3].id);
    CHECK_STR(str_of(seen.ids[3]), slow.id);
    /* The oldest by its entry, and the last to end. */
    end(running, &slow, ERR_TIMEOUT);
    seen = look(running, &counts);
    CHECK_U64(seen.count, 3);
    CHECK_STR(str_of(seen.ids[1]), queries[4].id);
    CHECK_STR(str_of(seen.ids[2]), slow.id);
    running_destroy(running);
}

TEST(the_ended_are_forgotten_with_time)
{
    struct running *running = make(10, 20);
    struct running_counts counts;
    struct query ended;
    struct query live;
    enter(running, &live);
    enter(running, &ended);
    end(running, &ended, ERR_NONE);
    CHECK_WITHIN(5000, !running_find(running, str_of(ended.id), see, &(struct seen){0}));
    CHECK_U64(look(running, &counts).count, 1);
    end(running, &live, ERR_NONE);
    running_destroy(running);
}

TEST(forgetting)
{
    struct running *running = make(10, 60000);
    struct running_counts counts;
    struct query queries[3];
    for (size_t i = 0; i < 3; i++) {
        enter(running, &queries[i]);
    }
    running_forget(running, queries[1].query);
    CHECK_U64(look(running, &counts).count, 2);
    CHECK_U64(counts.queued, 2);
    running_forget(running, queries[0].query);
    running_forget(running, queries[2].query);
    CHECK_U64(look(running, &counts).count, 0);
    CHECK_U64(counts.queued, 0);
    for (size_t i = 0; i < 3; i++) {
        cancel_finish(&queries[i].cancel);
    }
    running_destroy(running);
}

TEST(long_texts_are_cut)
{
    struct running *running = make(10, 60000);
    char text[RUNNING_STATEMENT_SIZE_MAX + 100];
    memset(text, 'x', sizeof(text));
    struct cancel cancel;
    cancel_init(&cancel, INT64_MAX);
    struct str all = str_make(text, sizeof(text));
    struct running_start start = {
        .id = "0123456789abcdef",
        .statement = all,
        .listener = all,
        .request_id = all,
        .client = STR(""),
        .cancel = &cancel,
    };
    struct running_query *query = running_enter(running, &start);
    struct seen seen = {0};
    CHECK(running_find(running, STR("0123456789abcdef"), see, &seen));
    CHECK_U64(seen.last.statement.len, RUNNING_STATEMENT_SIZE_MAX);
    CHECK_U64(seen.last.listener.len, RUNNING_NAME_SIZE);
    CHECK_U64(seen.last.client.len, 0);
    running_end(running, query, ERR_NONE);
    cancel_finish(&cancel);
    running_destroy(running);
}

/* ---- threads: one cancels whatever it sees, others come and go ---- */

struct crowd {
    struct running *running;
    atomic_uint left;
    atomic_uint cancelled;
};

static void *come_and_go(void *argument)
{
    struct crowd *crowd = argument;
    for (int i = 0; i < 2000; i++) {
        struct query query;
        struct err err;
        enter(crowd->running, &query);
        running_begin(crowd->running, query.query);
        bool good = cancel_check(&query.cancel, &err);
        running_end(crowd->running, query.query, good ? ERR_NONE : err.kind);
        cancel_finish(&query.cancel); /* after this a late raise would write to a closed file */
        atomic_fetch_add(&crowd->cancelled, good ? 0 : 1);
    }
    atomic_fetch_sub(&crowd->left, 1);
    return NULL;
}

TEST(a_query_is_never_cancelled_after_its_end)
{
    struct crowd crowd = {.running = make(20, 60000)};
    pthread_t threads[3];
    atomic_store(&crowd.left, COUNT_OF(threads));
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        threads[i] = thread_start("crowd", come_and_go, &crowd);
    }
    while (atomic_load(&crowd.left) > 0) {
        struct running_counts counts;
        struct seen seen = look(crowd.running, &counts);
        for (size_t i = 0; i < seen.count && i < VIEWS_MAX; i++) {
            (void)running_cancel(crowd.running, str_of(seen.ids[i]));
        }
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        (void)pthread_join(threads[i], NULL);
    }
    struct running_counts counts;
    CHECK_U64(look(crowd.running, &counts).count, 20);
    CHECK_U64(counts.queued + counts.running, 0);
    running_destroy(crowd.running);
}

TEST(ids_differ)
{
    char first[RUNNING_ID_SIZE];
    char second[RUNNING_ID_SIZE];
    running_make_id(first);
    running_make_id(second);
    CHECK_U64(strlen(first), RUNNING_ID_SIZE - 1);
    CHECK(strcmp(first, second) != 0);
}

static const struct test_case cases[] = {
    TEST_CASE(a_life),
    TEST_CASE(how_a_query_ends),
    TEST_CASE(cancelling),
    TEST_CASE(the_newest_comes_first),
    TEST_CASE(of_the_ended_the_last_are_kept),
    TEST_CASE(the_ended_are_forgotten_with_time),
    TEST_CASE(forgetting),
    TEST_CASE(long_texts_are_cut),
    TEST_CASE(a_query_is_never_cancelled_after_its_end),
    TEST_CASE(ids_differ),
};

TEST_MAIN(cases)
