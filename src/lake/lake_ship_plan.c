#include "lake_ship_internal.h"

#include "clock.h"
#include "lake_cut.h"
#include "lake_days.h"
#include "log.h"
#include "mem.h"

enum {
    PLANS_BYTES_MAX = WAL_PAYLOAD_SIZE_MAX / 2,
    SMALLER = 4 /* so much smaller are objects whose rows were too much for a worker */
};

/* One plan on its way. */
struct run {
    struct lake *lake;
    struct lake_table *table;
    struct cancel *cancel;
    const struct lake_plan *plan; /* the table's; nobody else touches it while table->flushing */
    bool found;                   /* it was begun before: some of its objects may be there */
    bool awaited;
    struct lake_tail_record *records; /* copies: the tail's array grows meanwhile */
    size_t records_count;
    const int32_t *day; /* of all rows, when /flush named it */
    int32_t day_value;
    struct lake_cuts cuts; /* one for each object */
    struct lake_lines lines;
};

/* ---- which rows ---- */

static bool add_days(struct lake_days *days, const struct lake_tail_record *record,
                     size_t count_max)
{
    bool good = record->sections != NULL || lake_days_add(days, record->day, count_max);
    for (uint32_t i = 0; good && record->sections != NULL && i < record->sections_count; i++) {
        good = lake_days_add(days, record->sections[i].day, count_max);
    }
    return good;
}

/* How many records of the tail make the next plan: whole requests, since they are in the lake as
 * one or not at all. */
static size_t count_records(const struct lake_table *table, const struct ship_limits *limits,
                            uint64_t upto)
{
    struct lake_days days = {0};
    uint64_t bytes = 0;
    uint64_t rows = 0;
    size_t count = 0;
    for (size_t next = 0; next < table->tail_count && table->tail[next].position <= upto;) {
        uint64_t position = table->tail[next].position;
        bool few = true;
        for (; next < table->tail_count && table->tail[next].position == position; next++) {
            bytes += table->tail[next].place.size - table->tail[next].lines_offset;
            rows += table->tail[next].rows;
            few = add_days(&days, &table->tail[next], count > 0 ? LAKE_DAYS_MAX : SIZE_MAX) && few;
        }
        if (count > 0 && (bytes > 2 * limits->bytes || rows > 2 * limits->rows || !few)) {
            break;
        }
        count = next;
    }
    lake_days_finish(&days);
    return count;
}

static size_t count_planned(const struct lake_table *table)
{
    size_t count = 0;
    while (count < table->tail_count && table->tail[count].position <= table->plan->last) {
        count++;
    }
    return count;
}

static void seal(struct run *run, uint64_t upto)
{
    struct lake_table *table = run->table;
    lock_take(&table->lock);
    struct ship_limits limits = ship_limits_of(run->lake, table->schema);
    run->plan = table->plan;
    run->found = table->plan != NULL;
    table->sealed =
        table->plan != NULL ? count_planned(table) : count_records(table, &limits, upto);
    run->records_count = table->sealed;
    run->records = mem_alloc_array(table->sealed + 1, sizeof(*run->records));
    if (table->sealed > 0) {
        memcpy(run->records, table->tail, table->sealed * sizeof(*run->records));
    }
    lock_release(&table->lock);
}

static void unseal(struct run *run)
{
    lock_take(&run->table->lock);
    if (run->table->plan == NULL) {
        run->table->sealed = 0;
    }
    lock_release(&run->table->lock);
}

/* ---- PLAN ---- */

static bool is_alone(const struct lake_cuts *cuts, size_t index)
{
    int32_t day = cuts->items[index].day;
    return (index == 0 || cuts->items[index - 1].day != day) &&
           (index + 1 == cuts->count || cuts->items[index + 1].day != day);
}

/* Objects of an earlier plan keep their names, the first `fixed`: they may be in the store. */
static bool name_objects(const struct run *run, struct lake_plan *plan, size_t fixed,
                         struct err *err)
{
    bool good = true;
    for (size_t i = 0; good && i < plan->objects_count; i++) {
        struct buf key;
        size_t size;
        buf_init(&key, STORE_KEY_SIZE_MAX);
        plan->objects[i].day = run->lines.windows[i].day;
        plan->objects[i].rows = run->lines.windows[i].rows;
        if (i < fixed) {
            buf_append_text(&key, run->plan->objects[i].key);
            plan->objects[i].aside = run->plan->objects[i].aside;
        } else {
            lake_object_append_key(run->lake, str_of(plan->table), plan->objects[i].day,
                                   plan->made_ms, LAKE_BUFFERED, plan->first, plan->last,
                                   is_alone(&run->cuts, i) ? LAKE_PART_NONE : i, &key);
        }
        good = !buf_failed(&key) || err_set(err, ERR_INVALID, "the object's key is too long");
        plan->objects[i].key = buf_take(&key, &size);
    }
    return good;
}

static void plan_destroy(struct lake_plan *plan)
{
    lake_plan_finish(plan);
    mem_free(plan);
}

/* Of the lines as they are gathered. */
static struct lake_plan *make_plan(const struct run *run, size_t fixed, struct err *err)
{
    struct lake_plan *plan = mem_alloc(sizeof(*plan));
    plan->table = mem_copy_text(run->table->name);
    const struct lake_plan *before = run->plan;
    plan->first = before != NULL ? before->first : run->records[0].position;
    plan->last = before != NULL ? before->last : run->records[run->records_count - 1].position;
    plan->made_ms = before != NULL ? before->made_ms : clock_wall_ms();
    plan->dated = run->day != NULL;
    plan->objects_stored = fixed;
    plan->objects_tried = fixed;
    plan->objects_count = run->lines.windows_count;
    plan->objects = mem_alloc_array(plan->objects_count, sizeof(*plan->objects));
    if (name_objects(run, plan, fixed, err)) {
        return plan;
    }
    plan_destroy(plan);
    return NULL;
}

/* A segment of the log of plans begins with all that are not finished, in one record: with too many
 * of them others are finished first. */
static bool take_room(struct lake *lake, uint64_t bytes, struct err *err)
{
    unsigned long long before = atomic_fetch_add(&lake->plans_bytes, bytes);
    if (before == 0 || before + bytes <= PLANS_BYTES_MAX) {
        return true;
    }
    (void)atomic_fetch_sub(&lake->plans_bytes, bytes);
    return err_set(err, ERR_BUSY, "too many flushes are not finished");
}

/* In the place of the one that the table has. */
static void set_plan(struct run *run, struct lake_plan *plan_take)
{
    struct lake_table *table = run->table;
    lock_take(&table->lock);
    struct lake_plan *before = table->plan;
    table->plan = plan_take;
    run->plan = plan_take;
    lock_release(&table->lock);
    if (before != NULL) {
        (void)atomic_fetch_sub(&run->lake->plans_bytes, before->bytes);
        plan_destroy(before);
    }
}

/* From here on these rows become these objects, whatever happens. A later PLAN of the same
 * positions takes the place of the earlier one. */
static bool begin_plan(struct run *run, size_t fixed, struct err *err)
{
    struct lake_plan *plan = make_plan(run, fixed, err);
    if (plan == NULL) {
        return false;
    }
    struct buf payload;
    struct wal_place place;
    struct wal_record record = {.type = LAKE_LOG_PLAN, .urgent = true};
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_plan(&payload, plan);
    plan->bytes = payload.len;
    ship_gate_enter(run->lake->ship);
    bool good = buf_failed(&payload)
                    ? err_set(err, ERR_TOO_LARGE, "one flush of the table has too many objects")
                    : take_room(run->lake, plan->bytes, err);
    if (good && !wal_append_wait(run->lake->plans, &record, &payload, &place, err)) {
        (void)atomic_fetch_sub(&run->lake->plans_bytes, plan->bytes);
        good = false;
    }
    if (good) {
        set_plan(run, plan);
    } else {
        plan_destroy(plan);
    }
    ship_gate_leave(run->lake->ship);
    buf_finish(&payload);
    return good;
}

/* A plan of an earlier attempt, or an earlier life, has to fit what the log holds. */
static bool check_plan(const struct run *run, struct err *err)
{
    const struct lake_plan *plan = run->plan;
    bool fits = plan->objects_count == run->lines.windows_count;
    for (size_t i = 0; fits && i < plan->objects_count; i++) {
        fits = plan->objects[i].day == run->lines.windows[i].day &&
               plan->objects[i].rows == run->lines.windows[i].rows;
    }
    return fits || err_set(err, ERR_CORRUPT,
                           "the log does not hold the rows of a flush of \"%s\" that was begun",
                           run->table->name);
}

/* ---- the objects ---- */

static bool gather(struct run *run, struct err *err)
{
    lake_lines_finish(&run->lines);
    bool good = lake_lines_gather_cut(run->lake, run->records, run->records_count, run->day,
                                      &run->cuts, &run->lines, err);
    /* Another attempt takes what it can get: the first may have had too little. */
    bool first = run->plan == NULL;
    run->lines.yields = first && !run->awaited && !ship_is_pressed(run->lake);
    return good;
}

static struct ship_object object_at(const struct run *run, size_t index,
                                    const struct lake_schema *schema)
{
    return (struct ship_object){
        .key = str_of(run->plan->objects[index].key),
        .schema = schema,
        .lines = &run->lines,
        .window = &run->lines.windows[index],
        .table = str_of(run->table->name),
        .first = run->plan->first,
        .last = run->plan->last,
        .again = run->found,
    };
}

static bool put_objects(struct run *run, struct ship_attempt *attempt, struct err *err)
{
    const struct lake_schema *schema = lake_table_schema(run->table);
    bool good = true;
    struct lake_plan *plan = run->table->plan; /* nobody else's while the table is flushed */
    for (size_t i = plan->objects_stored; good && i < plan->objects_count; i++) {
        struct ship_object object = object_at(run, i, schema);
        good = ship_put_object(run->lake, &object, run->cancel, attempt, err);
        plan->objects_stored += good ? 1 : 0;
        if (attempt->put && plan->objects_tried <= i) {
            plan->objects_tried = i + 1;
        }
    }
    lake_schema_drop(schema);
    return good;
}

/* What no worker could make a file of is cut into smaller objects, as are those after it, if the
 * store was never asked to take it: names that it may have must not change. False when that does
 * not help. */
static bool cut_smaller(struct run *run, struct err *err)
{
    size_t fixed = run->plan->objects_stored;
    uint64_t bytes_max = run->lines.windows[fixed].size / SMALLER;
    struct lake_cuts cuts = {0};
    bool smaller = run->plan->objects_tried <= fixed;
    if (smaller) {
        cuts = lake_cuts_refine(&run->cuts, fixed, bytes_max, run->records, run->records_count,
                                run->day);
        smaller = cuts.count > run->cuts.count;
    }
    if (!smaller) {
        lake_cuts_finish(&cuts);
        return false;
    }
    LOG(LOG_WARN, "lake.plan_cut", LOG_TEXT("table", str_of(run->table->name)),
        LOG_NUM("first", (int64_t)run->plan->first), LOG_NUM("last", (int64_t)run->plan->last),
        LOG_NUM("objects", (int64_t)cuts.count), LOG_ERR(err));
    lake_cuts_finish(&run->cuts);
    run->cuts = cuts;
    return gather(run, err) && begin_plan(run, fixed, err);
}

/* Only where the operator has said so, and after several attempts. */
static bool set_aside(struct run *run, struct err *err)
{
    struct lake_plan *plan = run->table->plan;
    struct err reason = *err;
    struct err ignored;
    if (!run->lake->options.set_aside || !ship_is_stuck(run->table) || !check_plan(run, &ignored)) {
        return false;
    }
    size_t index = plan->objects_stored;
    struct buf key;
    buf_init(&key, STORE_KEY_SIZE_MAX);
    const struct lake_schema *schema = lake_table_schema(run->table);
    struct ship_object object = object_at(run, index, schema);
    bool good = ship_set_aside(run->lake, &object, run->cancel, &key, err);
    lake_schema_drop(schema);
    if (good) {
        plan->objects[index].aside = true;
        plan->objects_stored++;
        plan->objects_tried += plan->objects_tried <= index ? 1 : 0;
        LOG(LOG_ERROR, "lake.set_aside", LOG_TEXT("table", str_of(run->table->name)),
            LOG_NUM("first", (int64_t)plan->first), LOG_NUM("last", (int64_t)plan->last),
            LOG_NUM("rows", (int64_t)object.window->rows), LOG_TEXT("key", buf_str(&key)),
            LOG_ERR(&reason));
    }
    buf_finish(&key);
    return good;
}

static bool put_all(struct run *run, struct err *err)
{
    struct ship_attempt attempt = {0};
    bool good = put_objects(run, &attempt, err);
    while (!good && attempt.unwritable && (cut_smaller(run, err) || set_aside(run, err))) {
        good = put_objects(run, &attempt, err);
    }
    return good;
}

static void describe(const struct run *run, struct lake_flushed *flushed)
{
    for (size_t i = 0; flushed != NULL && i < run->plan->objects_count; i++) {
        const struct lake_plan_object *object = &run->plan->objects[i];
        if (object->aside) {
            continue;
        }
        flushed->rows += object->rows;
        flushed->date = lake_date_of(object->day * SHIP_DAY_MS);
        store_append_url(run->lake->store, str_of(object->key), &flushed->urls);
        buf_append_byte(&flushed->urls, '\n');
    }
}

static bool commit(struct run *run, struct lake_flushed *flushed, struct err *err)
{
    struct buf payload;
    struct wal_place place;
    struct wal_record record = {.type = LAKE_LOG_COMMITTED, .urgent = true};
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX);
    lake_log_put_position(&payload, str_of(run->table->name), run->plan->last);
    ship_gate_enter(run->lake->ship);
    bool good = wal_append_wait(run->lake->plans, &record, &payload, &place, err);
    if (good) {
        describe(run, flushed);
        (void)atomic_fetch_sub(&run->lake->plans_bytes, run->plan->bytes);
        run->plan = NULL;
        lake_table_end_plan(run->lake, run->table);
    }
    ship_gate_leave(run->lake->ship);
    buf_finish(&payload);
    return good;
}

static void choose_day(struct run *run, const struct lake_date *date)
{
    const struct lake_plan *plan = run->plan;
    bool dated = plan == NULL ? date != NULL : plan->dated && plan->objects_count > 0;
    if (dated) {
        run->day_value = plan == NULL ? lake_day_of_date(date) : plan->objects[0].day;
        run->day = &run->day_value;
    }
}

/* A worker's job is bounded, however large the request is that the rows are of. */
static void cut(struct run *run)
{
    if (run->plan != NULL) {
        run->cuts = lake_cuts_of_plan(run->plan);
        return;
    }
    struct lake_cuts days = lake_cuts_by_day(run->records, run->records_count, run->day);
    run->cuts = lake_cuts_refine(&days, 0, run->lake->options.object_bytes_max, run->records,
                                 run->records_count, run->day);
    lake_cuts_finish(&days);
}

static bool run_sealed(struct run *run, const struct lake_date *date, struct lake_flushed *flushed,
                       struct err *err)
{
    choose_day(run, date);
    cut(run);
    return gather(run, err) && (run->plan != NULL || begin_plan(run, 0, err)) &&
           check_plan(run, err) && lake_schema_store(run->lake, run->table, run->cancel, err) &&
           put_all(run, err) &&
           lake_manifest_put(run->lake, run->table, run->plan, run->cancel, err) &&
           commit(run, flushed, err);
}

bool ship_run_plan(struct lake *lake, struct lake_table *table, const struct lake_date *date,
                   uint64_t upto, struct cancel *cancel, struct lake_flushed *flushed,
                   uint64_t *ret_rows, struct err *err)
{
    struct run run = {.lake = lake,
                      .table = table,
                      .cancel = cancel,
                      .awaited = upto != UINT64_MAX,
                      .lines = {.fd = -1}};
    *ret_rows = 0;
    seal(&run, upto);
    bool nothing = run.records_count == 0 && run.plan == NULL;
    bool good = nothing || run_sealed(&run, date, flushed, err);
    if (good && run.records_count > 0) {
        *ret_rows = run.lines.rows;
        uint64_t bytes = 0;
        for (size_t i = 0; i < run.lines.windows_count; i++) {
            bytes += run.lines.windows[i].size;
        }
        ship_note_done(lake->ship, bytes);
    } else if (!good) {
        unseal(&run);
    }
    lake_lines_finish(&run.lines);
    lake_cuts_finish(&run.cuts);
    mem_free(run.records);
    return good;
}
