#include "clock.h"
#include "database_internal.h"
#include "fd.h"
#include "log.h"

enum {
    CLOSE_WAIT_MS = 60000, /* for the last checkpoint */
    RETRY_FIRST_MS = 250,  /* after an opening that failed, doubled with each */
    RETRY_MAX_MS = 60000,
    DEATHS_MAX = 3, /* of processes that open the file, in a row, before it is set aside */
    GRANT_MIN_BYTES = 128 << 20, /* a database that gets less waits for another to be closed */
};

static bool wait_turn(struct databases *databases, struct cancel *cancel, struct err *err)
    REQUIRES(&databases->lock)
{
    (void)condition_wait_until(&databases->changed, &databases->lock,
                               clock_now_ms() + DATABASE_WAIT_STEP_MS);
    return cancel_check(cancel, err);
}

static void enter_phase(struct database *database, enum database_phase phase)
{
    static const bool allowed[][PHASE_ALONE + 1] = {
        [PHASE_CLOSED] = {[PHASE_OPENING] = true, [PHASE_ALONE] = true},
        [PHASE_OPENING] = {[PHASE_OPEN] = true, [PHASE_CLOSED] = true},
        [PHASE_OPEN] = {[PHASE_CLOSING] = true},
        [PHASE_CLOSING] = {[PHASE_CLOSED] = true},
        [PHASE_ALONE] = {[PHASE_CLOSED] = true},
    };
    assert(allowed[database->phase][phase]);
    (void)allowed;
    database->phase = phase;
    database_wake(database);
    condition_broadcast(&database->owner->changed);
}

/* ---- closing ---- */

/* Gives back the place and the memory of one that is not open any more, or never was. */
static void give_back(struct database *database)
{
    struct databases *databases = database->owner;
    databases->granted_bytes -= database->granted_bytes;
    database->granted_bytes = 0;
    databases->open_count--;
    database->engine = NULL;
    enter_phase(database, PHASE_CLOSED);
}

/* What was committed is in the file and its log, whether or not the last checkpoint succeeds. */
NOT_ANALYSED static void close_engine(struct database *database, int64_t deadline_ms)
{
    struct databases *databases = database->owner;
    struct engine_database *engine = database->engine;
    enter_phase(database, PHASE_CLOSING);
    lock_release(&databases->lock);
    struct err err;
    if (!engine_database_close(engine, deadline_ms, &err)) {
        LOG(LOG_WARN, "database.not_closed", LOG_TEXT("database", str_of(database->name)),
            LOG_ERR(&err));
    }
    lock_take(&databases->lock);
    give_back(database);
}

static bool is_idle(const struct database *database)
{
    return database->phase == PHASE_OPEN && database->users == 0 && database->waiting == 0;
}

void databases_close_idle(struct databases *databases, int64_t idle_ms)
{
    int64_t now_ms = clock_now_ms();
    for (struct database *database = databases->first; database != NULL;
         database = database->next) {
        if (is_idle(database) && (!engine_database_is_alive(database->engine) ||
                                  now_ms - database->used_ms >= idle_ms)) {
            close_engine(database, now_ms + CLOSE_WAIT_MS);
        }
    }
}

/* Nobody waits for it any more: whoever began it has been answered. */
NOT_ANALYSED static void end_opening(struct database *database)
{
    struct databases *databases = database->owner;
    if (database->phase == PHASE_OPENING) {
        cancel_raise(&database->patience, ERR_UNAVAILABLE);
    }
    while (database->phase == PHASE_OPENING) {
        condition_wait(&databases->changed, &databases->lock);
    }
}

void databases_close_all(struct databases *databases, int64_t deadline_ms)
{
    for (struct database *database = databases->first; database != NULL;
         database = database->next) {
        assert(database->users == 0);
        end_opening(database);
        if (database->phase == PHASE_OPEN) {
            close_engine(database, deadline_ms);
        }
    }
}

/* ---- opening ---- */

static struct database *used_longest_ago(struct databases *databases)
{
    struct database *found = NULL;
    for (struct database *database = databases->first; database != NULL;
         database = database->next) {
        if (is_idle(database) && (found == NULL || database->used_ms < found->used_ms)) {
            found = database;
        }
    }
    return found;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t least_grant(const struct databases *databases)
{
    return smaller(databases->options.memory_bytes, GRANT_MIN_BYTES);
}

/* At most half of what is left while another one may be opened: on a small machine the first would
 * shut out all the others. */
static uint64_t grant_for(const struct databases *databases)
{
    uint64_t left = databases->options.memory_total_bytes - databases->granted_bytes;
    uint64_t share = databases->open_count + 1 < databases->options.open_max ? left / 2 : left;
    uint64_t least = least_grant(databases);
    share = share < least ? smaller(least, left) : share;
    return smaller(databases->options.memory_bytes, share);
}

static bool has_room(const struct databases *databases)
{
    return databases->open_count < databases->options.open_max &&
           grant_for(databases) >= least_grant(databases);
}

/* One step towards room for one more: the state has to be looked at again afterwards. */
NOT_ANALYSED static bool make_room(struct databases *databases, struct cancel *cancel,
                                   struct err *err)
{
    struct database *victim = used_longest_ago(databases);
    if (victim == NULL) {
        return wait_turn(databases, cancel, err);
    }
    close_engine(victim, clock_now_ms() + CLOSE_WAIT_MS);
    return true;
}

/* Without the lock. */
static bool start_engine(struct database *database, uint64_t granted_bytes, struct cancel *cancel,
                         struct engine_database **ret_engine, struct err *err)
{
    const struct databases_options *options = &database->owner->options;
    if (!database_reach(database, err) || !database_mend_renames(database, err)) {
        return false;
    }
    bool anew = database->opens_anew;
    if (!anew && database_is_quarantined(database)) {
        return err_set(err, ERR_CORRUPT, "it was set aside before");
    }
    if (!anew && !database->is_default && !database_has_file(database)) {
        return err_set(err, ERR_NOT_FOUND, "there is no database '%s'", database->name);
    }
    /* A log without its file would be replayed into a new one. */
    bool orphan = !database_has_file(database) && database_has_log(database);
    if ((orphan || database_is_half_made(database)) && !database_set_aside(database, err)) {
        return false;
    }
    struct engine_database_options opening = {
        .folder_fd = database->folder_fd,
        .name = database->file_name,
        .temp_fd = database->temp_fd,
        .memory_bytes = granted_bytes,
        .file_bytes_max = options->file_bytes_max,
        .temp_bytes_max = options->temp_bytes_max,
        .threads = options->threads,
        .slots = options->slots + 1, /* for a probe */
        .close_by_ms = &database->owner->close_by_ms,
    };
    return engine_database_open(options->engine, &opening, cancel, ret_engine, err);
}

/* A file that cannot be read any more, or that ends whatever process opens it, is renamed: the next
 * request is told so at once, and people find it as it was. True when that is how it stands; what
 * the engine said of its files is for the log alone. */
static bool set_aside_if_damaged(struct database *database, unsigned deaths, struct err *err)
{
    struct err problem = *err;
    bool deadly = problem.kind == ERR_INTERNAL && deaths + 1 >= DEATHS_MAX;
    if (problem.kind != ERR_CORRUPT && !deadly) {
        return false;
    }
    if (database_has_file(database)) {
        bool done = database_set_aside(database, err);
        LOG(LOG_ERROR, "database.quarantined", LOG_TEXT("database", str_of(database->name)),
            LOG_ERR(&problem), LOG_TEXT("not_renamed", str_of(done ? "" : err->message)));
        if (!done) {
            return false;
        }
    }
    (void)err_set(err, ERR_UNAVAILABLE,
                  "database '%s' is damaged and was set aside; restore it from a backup, or create "
                  "it anew",
                  database->name);
    return true;
}

static void note_failure(struct database *database, bool died, bool aside, const struct err *err)
{
    database->aside = aside;
    database->deaths = died ? database->deaths + 1 : 0;
    unsigned doublings = database->failed_openings < 10 ? database->failed_openings : 10;
    int64_t pause_ms = (int64_t)RETRY_FIRST_MS << doublings;
    database->failed_openings++;
    database->open_err = *err;
    database->retry_open_ms = clock_now_ms() + (pause_ms < RETRY_MAX_MS ? pause_ms : RETRY_MAX_MS);
}

static void note_opening(struct database *database, struct engine_database *engine)
{
    database->engine = engine;
    database->failed_openings = 0;
    database->deaths = 0;
    database->retry_open_ms = 0;
    database->aside = false;
    database->open_err = (struct err){0};
    database->version = ++database->owner->next_version;
    database->used_ms = clock_now_ms();
    enter_phase(database, PHASE_OPEN);
}

/* The thread `opener`. The log of a crash may take long to be replayed, and begins anew when that
 * is cut short: an opening goes on when the client that began it has no time left, or leaves. */
static void *open_engine(void *argument)
{
    struct database *database = argument;
    struct databases *databases = database->owner;
    struct engine_database *engine = NULL;
    struct err err;
    bool good = start_engine(database, database->granted_bytes, &database->patience, &engine, &err);
    if (!good && err.kind == ERR_TIMEOUT) {
        (void)err_set(&err, ERR_UNAVAILABLE,
                      "database '%s' does not open within EIDER_DATABASE_COPY_TIMEOUT_MS",
                      database->name);
    }
    bool died = !good && err.kind == ERR_INTERNAL;
    bool aside = !good && set_aside_if_damaged(database, database->deaths, &err);
    lock_take(&databases->lock);
    cancel_finish(&database->patience);
    if (good) {
        note_opening(database, engine);
    } else {
        note_failure(database, died, aside, &err);
        give_back(database);
    }
    lock_release(&databases->lock);
    return NULL;
}

static bool begin_opening(struct database *database, struct database_waiter *waiter,
                          struct err *err)
{
    struct databases *databases = database->owner;
    database->granted_bytes = grant_for(databases);
    databases->granted_bytes += database->granted_bytes;
    databases->open_count++;
    database->opens_anew = database->anew;
    enter_phase(database, PHASE_OPENING);
    cancel_init(&database->patience, clock_now_ms() + databases->options.open_timeout_ms);
    if (!thread_start_detached("opener", open_engine, database)) {
        cancel_finish(&database->patience);
        give_back(database);
        return err_set(err, ERR_UNAVAILABLE, "the server has no thread to open the database");
    }
    waiter->opening = ++database->openings;
    return true;
}

/* Who has begun the opening is told how it ended; the others that nothing was tried for them. */
static bool own_opening_failed(const struct database *database,
                               const struct database_waiter *waiter, struct err *err)
{
    if (waiter->opening != database->openings || waiter->opening == 0 ||
        database->failed_openings == 0) {
        return false;
    }
    *err = database->open_err;
    return true;
}

static bool still_too_early(const struct database *database, int64_t *ret_retry_ms, struct err *err)
{
    int64_t left_ms = database->retry_open_ms - clock_now_ms();
    if (database->retry_open_ms == 0 || left_ms <= 0) {
        return false;
    }
    *err = database->open_err;
    *ret_retry_ms = left_ms;
    return true;
}

/* ---- users ---- */

static bool is_usable(const struct database *database, enum database_use use)
{
    unsigned places = database->owner->options.slots + (use == USE_PROBE ? 1 : 0);
    return database->phase == PHASE_OPEN && engine_database_is_alive(database->engine) &&
           database->alone_wanted == 0 && database->users < places;
}

/* The first one that something keeps from its work no longer. A reader passes writers that wait for
 * the one that writes, and nobody else. */
static struct database_waiter *who_is_next(const struct database *database)
{
    struct database_waiter *waiter = database->first_waiter;
    while (waiter != NULL && waiter->use == USE_WRITE && database->writing) {
        waiter = waiter->next;
    }
    return waiter;
}

void database_wake(struct database *database)
{
    bool closed =
        database->phase == PHASE_CLOSED || (database->phase == PHASE_OPEN && database->users == 0 &&
                                            !engine_database_is_alive(database->engine));
    struct database_waiter *waiter = closed                          ? database->first_waiter
                                     : is_usable(database, USE_READ) ? who_is_next(database)
                                                                     : NULL;
    if (waiter != NULL) {
        condition_signal(&waiter->turn);
    }
}

/* `waiter` is NULL of one that has just come: whoever waits and could go in goes first, but for a
 * probe, whose place nobody else may have. */
static bool step_in(struct database *database, enum database_use use,
                    const struct database_waiter *waiter)
{
    if (!is_usable(database, use) || (use == USE_WRITE && database->writing) ||
        (use != USE_PROBE && who_is_next(database) != waiter)) {
        return false;
    }
    database->users++;
    database->writing = database->writing || use == USE_WRITE;
    return true;
}

static bool wait_own_turn(struct database *database, struct database_waiter *waiter,
                          struct cancel *cancel, struct err *err) REQUIRES(&database->owner->lock)
{
    (void)condition_wait_until(&waiter->turn, &database->owner->lock,
                               clock_now_ms() + cancel_left_ms(cancel, DATABASE_WAIT_STEP_MS));
    return cancel_check(cancel, err);
}

/* Does what has to be done before the database can be used, or waits for who does it. */
NOT_ANALYSED static bool come_closer(struct database *database, struct database_waiter *waiter,
                                     struct cancel *cancel, int64_t *ret_retry_ms, struct err *err)
{
    struct databases *databases = database->owner;
    if (databases->stopping) {
        return err_set(err, ERR_UNAVAILABLE, "the server is stopping");
    }
    if (database->phase == PHASE_OPEN && database->users == 0 &&
        !engine_database_is_alive(database->engine)) {
        close_engine(database, clock_now_ms() + CLOSE_WAIT_MS);
        return true;
    }
    if (database->phase != PHASE_CLOSED || database->alone_wanted > 0) {
        return wait_own_turn(database, waiter, cancel, err);
    }
    if (own_opening_failed(database, waiter, err) || still_too_early(database, ret_retry_ms, err)) {
        return false;
    }
    if (!has_room(databases)) {
        return make_room(databases, cancel, err);
    }
    return begin_opening(database, waiter, err);
}

static void add_waiter(struct database *database, struct database_waiter *waiter)
{
    condition_init(&waiter->turn);
    *database->last_waiter = waiter;
    database->last_waiter = &waiter->next;
    database->waiting++;
}

static void remove_waiter(struct database *database, struct database_waiter *waiter)
{
    struct database_waiter **link = &database->first_waiter;
    while (*link != waiter) {
        link = &(*link)->next;
    }
    *link = waiter->next;
    if (database->last_waiter == &waiter->next) {
        database->last_waiter = link;
    }
    database->waiting--;
    condition_finish(&waiter->turn);
}

bool database_enter(struct database *database, enum database_use use, struct cancel *cancel,
                    int64_t *ret_retry_ms, struct err *err)
{
    if (step_in(database, use, NULL)) {
        return true;
    }
    if (database->waiting >= database->owner->options.waiting_max) {
        return err_set(err, ERR_BUSY, "too many requests wait for database '%s'; retry shortly",
                       database->name);
    }
    struct database_waiter waiter = {.use = use};
    add_waiter(database, &waiter);
    bool good = cancel_check(cancel, err);
    bool in = false;
    while (good && !in) {
        good = come_closer(database, &waiter, cancel, ret_retry_ms, err);
        in = good && step_in(database, use, &waiter);
    }
    remove_waiter(database, &waiter);
    database_wake(database); /* the place may have room for more, and who gives up passes it on */
    return good;
}

void database_leave(struct database *database, enum database_use use)
{
    struct databases *databases = database->owner;
    assert(database->users > 0);
    database->users--;
    database->used_ms = clock_now_ms();
    if (use == USE_WRITE) {
        database->writing = false;
        database->version = ++databases->next_version;
    }
    database_wake(database);
    condition_broadcast(&databases->changed);
}

NOT_ANALYSED bool database_enter_alone(struct database *database, struct cancel *cancel,
                                       struct err *err)
{
    struct databases *databases = database->owner;
    database->alone_wanted++;
    bool good = true;
    while (good && database->phase != PHASE_CLOSED) {
        if (database->phase == PHASE_OPEN && database->users == 0) {
            close_engine(database, clock_now_ms() + CLOSE_WAIT_MS);
        } else {
            good = wait_turn(databases, cancel, err);
        }
    }
    if (good) {
        enter_phase(database, PHASE_ALONE);
    }
    database->alone_wanted--;
    database_wake(database);
    return good;
}

void database_leave_alone(struct database *database)
{
    database->failed_openings = 0;
    database->deaths = 0;
    database->retry_open_ms = 0;
    database->aside = false;
    database->open_err = (struct err){0};
    enter_phase(database, PHASE_CLOSED);
}
