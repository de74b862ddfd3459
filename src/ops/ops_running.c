#include "ops_running.h"

#include "clock.h"
#include "digest.h"
#include "mem.h"
#include "thread.h"

struct running_query {
    char id[RUNNING_ID_SIZE];
    enum running_state state;
    enum err_kind error;
    struct cancel *cancel; /* NULL once it has ended */
    char *texts;           /* one block: statement, listener, request id, client */
    struct str statement;
    struct str listener;
    struct str request_id;
    struct str client;
    struct running_numbers numbers;
    uint64_t sent_bytes;
    int64_t entered_wall_ms;
    int64_t entered_ms;
    int64_t begun_ms; /* 0 while it is queued, and for one that never ran */
    int64_t ended_ms;
    struct running_query *newer;
    struct running_query *older;
    struct running_query *next_ended; /* the one that ended after it */
};

struct running {
    struct running_options options;
    struct lock lock; /* LOCK_RUNNING: all below, and every query */
    struct running_query *newest;
    struct running_query *oldest;
    struct running_query *first_ended;
    struct running_query *last_ended;
    unsigned ended_count;
    struct running_counts counts;
};

struct running *running_create(const struct running_options *options)
{
    struct running *running = mem_alloc(sizeof(*running));
    running->options = *options;
    lock_init(&running->lock, LOCK_RUNNING);
    return running;
}

static void query_free(struct running_query *query)
{
    mem_free(query->texts);
    mem_free(query);
}

void running_destroy(struct running *running)
{
    if (running == NULL) {
        return;
    }
    while (running->newest != NULL) {
        struct running_query *query = running->newest;
        assert(query->cancel == NULL);
        running->newest = query->older;
        query_free(query);
    }
    lock_finish(&running->lock);
    mem_free(running);
}

void running_make_id(char id[static RUNNING_ID_SIZE])
{
    unsigned char bytes[(RUNNING_ID_SIZE - 1) / 2];
    digest_random_id(bytes, sizeof(bytes));
    digest_hex(bytes, sizeof(bytes), id);
}

const char *running_state_name(enum running_state state)
{
    static const char *const names[RUNNING_STATE_COUNT] = {
        [RUNNING_QUEUED] = "queued",       [RUNNING_RUNNING] = "running",
        [RUNNING_STREAMING] = "streaming", [RUNNING_DONE] = "done",
        [RUNNING_FAILED] = "failed",       [RUNNING_CANCELLED] = "cancelled",
    };
    assert(state < RUNNING_STATE_COUNT);
    return names[state];
}

/* ---- the list ---- */

static void link_newest(struct running *running, struct running_query *query)
    REQUIRES(&running->lock)
{
    query->older = running->newest;
    *(running->newest != NULL ? &running->newest->newer : &running->oldest) = query;
    running->newest = query;
}

static void unlink_query(struct running *running, struct running_query *query)
    REQUIRES(&running->lock)
{
    *(query->newer != NULL ? &query->newer->older : &running->newest) = query->older;
    *(query->older != NULL ? &query->older->newer : &running->oldest) = query->newer;
    query->newer = NULL;
    query->older = NULL;
}

static bool has_ended(const struct running_query *query)
{
    return query->state >= RUNNING_DONE;
}

static void add_ended(struct running *running, struct running_query *query) REQUIRES(&running->lock)
{
    *(running->last_ended != NULL ? &running->last_ended->next_ended : &running->first_ended) =
        query;
    running->last_ended = query;
}

/* The list is in the order of entry; who ended first goes first. */
static void drop_ended(struct running *running, int64_t now_ms) REQUIRES(&running->lock)
{
    struct running_query *first;
    while ((first = running->first_ended) != NULL &&
           (running->ended_count > running->options.ended_max ||
            now_ms - first->ended_ms >= running->options.ended_keep_ms)) {
        running->first_ended = first->next_ended;
        running->last_ended = running->first_ended == NULL ? NULL : running->last_ended;
        running->ended_count--;
        unlink_query(running, first);
        query_free(first);
    }
}

static struct running_query *find(struct running *running, struct str id) REQUIRES(&running->lock)
{
    struct running_query *query = running->newest;
    while (query != NULL && !str_equal(id, str_of(query->id))) {
        query = query->older;
    }
    return query;
}

/* ---- the life of a query ---- */

/* The numbers of counts that a state is counted in. */
static unsigned *count_of(struct running *running, enum running_state state)
    REQUIRES(&running->lock)
{
    switch (state) {
    case RUNNING_QUEUED:
        return &running->counts.queued;
    case RUNNING_RUNNING:
    case RUNNING_STREAMING:
        return &running->counts.running;
    case RUNNING_DONE:
    case RUNNING_FAILED:
    case RUNNING_CANCELLED:
    case RUNNING_STATE_COUNT:
        break;
    }
    return &running->ended_count;
}

static void change_state(struct running *running, struct running_query *query,
                         enum running_state state) REQUIRES(&running->lock)
{
    static const bool allowed[RUNNING_STATE_COUNT][RUNNING_STATE_COUNT] = {
        [RUNNING_QUEUED] = {[RUNNING_RUNNING] = true,
                            [RUNNING_DONE] = true,
                            [RUNNING_FAILED] = true,
                            [RUNNING_CANCELLED] = true},
        [RUNNING_RUNNING] = {[RUNNING_STREAMING] = true,
                             [RUNNING_DONE] = true,
                             [RUNNING_FAILED] = true,
                             [RUNNING_CANCELLED] = true},
        [RUNNING_STREAMING] =
            {[RUNNING_DONE] = true, [RUNNING_FAILED] = true, [RUNNING_CANCELLED] = true},
    };
    assert(allowed[query->state][state]);
    --*count_of(running, query->state);
    ++*count_of(running, state);
    query->state = state;
}

static struct str put_text(char **at, struct str text, size_t size_max)
{
    struct str copy = str_make(*at, text.len < size_max ? text.len : size_max);
    if (copy.len > 0) {
        memcpy(*at, text.ptr, copy.len);
    }
    *at += copy.len;
    return copy;
}

struct running_query *running_enter(struct running *running, const struct running_start *start)
{
    struct running_query *query = mem_alloc(sizeof(*query));
    size_t statement_size = str_first(start->statement, RUNNING_STATEMENT_SIZE_MAX).len;
    char *at = mem_alloc(statement_size + 3 * RUNNING_NAME_SIZE);
    assert(start->cancel != NULL);
    assert(strlen(start->id) == RUNNING_ID_SIZE - 1);
    memcpy(query->id, start->id, RUNNING_ID_SIZE);
    query->cancel = start->cancel;
    query->texts = at;
    query->statement = put_text(&at, start->statement, statement_size);
    query->listener = put_text(&at, start->listener, RUNNING_NAME_SIZE);
    query->request_id = put_text(&at, start->request_id, RUNNING_NAME_SIZE);
    query->client = put_text(&at, start->client, RUNNING_NAME_SIZE);
    query->entered_wall_ms = clock_wall_ms();
    query->entered_ms = clock_now_ms();
    query->state = RUNNING_QUEUED;
    lock_take(&running->lock);
    running->counts.queued++;
    link_newest(running, query);
    lock_release(&running->lock);
    return query;
}

void running_begin(struct running *running, struct running_query *query)
{
    lock_take(&running->lock);
    change_state(running, query, RUNNING_RUNNING);
    query->begun_ms = clock_now_ms();
    lock_release(&running->lock);
}

void running_stream(struct running *running, struct running_query *query)
{
    lock_take(&running->lock);
    change_state(running, query, RUNNING_STREAMING);
    lock_release(&running->lock);
}

static void raise_to(uint64_t *number, uint64_t value)
{
    *number = value > *number ? value : *number;
}

void running_progress(struct running *running, struct running_query *query,
                      const struct running_numbers *numbers)
{
    lock_take(&running->lock);
    struct running_numbers *known = &query->numbers;
    assert(!has_ended(query));
    known->permille = numbers->permille > known->permille ? numbers->permille : known->permille;
    raise_to(&known->rows, numbers->rows);
    raise_to(&known->read_bytes, numbers->read_bytes);
    raise_to(&known->peak_bytes, numbers->peak_bytes);
    lock_release(&running->lock);
}

void running_sent(struct running *running, struct running_query *query, uint64_t bytes)
{
    lock_take(&running->lock);
    query->sent_bytes += bytes;
    lock_release(&running->lock);
}

static enum running_state end_state(enum err_kind kind)
{
    bool cancelled = kind == ERR_STOPPED || kind == ERR_CANCELLED;
    return kind == ERR_NONE ? RUNNING_DONE : cancelled ? RUNNING_CANCELLED : RUNNING_FAILED;
}

void running_end(struct running *running, struct running_query *query, enum err_kind kind)
{
    lock_take(&running->lock);
    int64_t now_ms = clock_now_ms();
    change_state(running, query, end_state(kind));
    query->error = kind;
    query->cancel = NULL;
    query->ended_ms = now_ms;
    add_ended(running, query);
    if (kind == ERR_NONE) {
        query->numbers.permille = 1000;
    }
    drop_ended(running, now_ms);
    lock_release(&running->lock);
}

void running_forget(struct running *running, struct running_query *query)
{
    lock_take(&running->lock);
    assert(!has_ended(query));
    --*count_of(running, query->state);
    unlink_query(running, query);
    lock_release(&running->lock);
    query_free(query);
}

/* ---- looking ---- */

static struct running_view view_of(const struct running_query *query, int64_t now_ms)
{
    int64_t until_ms = has_ended(query) ? query->ended_ms : now_ms;
    int64_t begun_ms = query->begun_ms != 0 ? query->begun_ms : until_ms;
    return (struct running_view){
        .id = query->id,
        .state = query->state,
        .error = query->error,
        .statement = query->statement,
        .listener = query->listener,
        .request_id = query->request_id,
        .client = query->client,
        .numbers = query->numbers,
        .sent_bytes = query->sent_bytes,
        .entered_wall_ms = query->entered_wall_ms,
        .queued_ms = begun_ms - query->entered_ms,
        .elapsed_ms = until_ms - query->entered_ms,
    };
}

void running_visit(struct running *running, size_t count_max, running_visit_fn *visit,
                   void *context, struct running_counts *ret_counts)
{
    lock_take(&running->lock);
    int64_t now_ms = clock_now_ms();
    drop_ended(running, now_ms);
    const struct running_query *query = running->newest;
    for (size_t i = 0; query != NULL && i < count_max; i++) {
        struct running_view view = view_of(query, now_ms);
        visit(context, &view);
        query = query->older;
    }
    *ret_counts = running->counts;
    lock_release(&running->lock);
}

bool running_find(struct running *running, struct str id, running_visit_fn *visit, void *context)
{
    lock_take(&running->lock);
    int64_t now_ms = clock_now_ms();
    drop_ended(running, now_ms);
    const struct running_query *query = find(running, id);
    bool found = query != NULL;
    if (found) {
        struct running_view view = view_of(query, now_ms);
        visit(context, &view);
    }
    lock_release(&running->lock);
    return found;
}

enum running_cancel_result running_cancel(struct running *running, struct str id)
{
    enum running_cancel_result result = RUNNING_UNKNOWN;
    lock_take(&running->lock);
    const struct running_query *query = find(running, id);
    if (query != NULL && query->cancel != NULL) {
        cancel_raise(query->cancel, ERR_STOPPED);
        result = RUNNING_ASKED;
    } else if (query != NULL) {
        result = RUNNING_HAS_ENDED;
    }
    lock_release(&running->lock);
    return result;
}
