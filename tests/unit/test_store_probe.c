/* The probe against a store in memory that has one flaw at a time. */
#include "test.h"

#include "mem.h"
#include "store_probe_internal.h"
#include "thread.h"

enum {
    OBJECTS_MAX = 64,
    TEXT_SIZE = 64,
    WRITERS = 16,
    ROUNDS = 3
};

enum flaw {
    FLAW_NONE,
    FLAW_UNREACHABLE,
    FLAW_REFUSES_PUTS,
    FLAW_OVERWRITES,  /* create-only is not looked at */
    FLAW_SEVERAL_WIN, /* two of those that come in a race are told that they won */
    FLAW_LAST_WINS,   /* one is told so, and the bytes of the last one stay */
    FLAW_SOME_FAIL,   /* one of a race gets an error instead of an answer */
    FLAW_READS_OLD,   /* reading does not find what was written */
    FLAW_LISTS_LATE,  /* listing does not */
    FLAW_NO_ETAG,
    FLAW_KEEPS_DELETED, /* delete does nothing */
    FLAW_REFUSES_DELETES
};

struct object {
    char key[STORE_KEY_SIZE_MAX + 1];
    char text[TEXT_SIZE];
    unsigned puts; /* that were tried */
    bool there;
};

struct fake {
    struct store base;
    struct lock lock;
    enum flaw flaw;
    struct object objects[OBJECTS_MAX];
};

static struct object *find(struct fake *fake, struct str key)
{
    struct object *object = fake->objects;
    while (object->key[0] != '\0' && !str_equal(str_of(object->key), key)) {
        object++;
    }
    assert(object < fake->objects + OBJECTS_MAX - 1);
    (void)snprintf(object->key, sizeof(object->key), "%.*s", STR_ARG(key));
    return object;
}

static bool is_race(struct str key)
{
    return str_find(key, STR("-race-")) < key.len;
}

static bool put_locked(const struct fake *fake, struct object *object, struct str key,
                       struct str text, struct err *err)
{
    bool race = is_race(key);
    bool taken = object->there;
    unsigned number = ++object->puts;
    if (fake->flaw == FLAW_REFUSES_PUTS) {
        return err_set(err, ERR_STORE_DENIED, "no puts here");
    }
    if (fake->flaw == FLAW_SOME_FAIL && race && number == 3) {
        return err_set(err, ERR_STORE, "out of order");
    }
    bool wins = !taken || (fake->flaw == FLAW_OVERWRITES && !race) ||
                (fake->flaw == FLAW_SEVERAL_WIN && race && number == 2);
    if (wins || (fake->flaw == FLAW_LAST_WINS && race)) {
        object->there = true;
        (void)snprintf(object->text, sizeof(object->text), "%.*s", STR_ARG(text));
    }
    return wins || err_set(err, ERR_CONFLICT, "taken");
}

static bool put(struct store *store, struct str key, const struct store_source *source,
                const struct store_put_options *options, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    struct fake *fake = (struct fake *)store;
    (void)cancel;
    assert(options->create_only);
    lock_take(&fake->lock);
    bool good = put_locked(fake, find(fake, key), key, source->bytes, err);
    lock_release(&fake->lock);
    *ret_object = (struct store_object){.size = source->bytes.len};
    return good;
}

static bool missing(struct err *err)
{
    return err_set(err, ERR_STORE_MISSING, "not there");
}

static bool head(struct store *store, struct str key, struct cancel *cancel,
                 struct store_object *ret_object, struct err *err)
{
    struct fake *fake = (struct fake *)store;
    const struct object *object = find(fake, key);
    (void)cancel;
    *ret_object = (struct store_object){.size = strlen(object->text)};
    (void)snprintf(ret_object->etag, sizeof(ret_object->etag), "%s",
                   fake->flaw == FLAW_NO_ETAG ? "" : "\"e\"");
    return object->there || missing(err);
}

static bool get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    struct fake *fake = (struct fake *)store;
    buf_append_text(into, find(fake, key)->text);
    return fake->flaw == FLAW_READS_OLD ? missing(err) : head(store, key, cancel, ret_object, err);
}

static bool list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                 struct cancel *cancel, struct err *err)
{
    struct fake *fake = (struct fake *)store;
    bool good = true;
    (void)cancel;
    for (struct object *at = fake->objects; good && at->key[0] != '\0'; at++) {
        struct store_object object = {.size = strlen(at->text)};
        if (at->there && fake->flaw != FLAW_LISTS_LATE && str_starts(str_of(at->key), prefix)) {
            good = visit(context, str_of(at->key), &object, err);
        }
    }
    return good;
}

static bool delete_key(struct store *store, struct str key, struct cancel *cancel, struct err *err)
{
    struct fake *fake = (struct fake *)store;
    (void)cancel;
    if (fake->flaw == FLAW_REFUSES_DELETES) {
        return err_set(err, ERR_STORE_DENIED, "no deletes here");
    }
    find(fake, key)->there = fake->flaw == FLAW_KEEPS_DELETED && find(fake, key)->there;
    return true;
}

static bool reach(struct store *store, struct store_probe *probe)
{
    bool good = ((struct fake *)store)->flaw != FLAW_UNREACHABLE;
    probe_tell(probe, "reach", good ? STORE_PROBE_OK : STORE_PROBE_FAIL,
               good ? STORE_CAUSE_NONE : STORE_CAUSE_NO_CONNECTION, "reached: %d", good);
    return good;
}

static const struct store_operations operations = {
    .put = put,
    .head = head,
    .get = get,
    .list = list,
    .delete_key = delete_key,
    .probe_reach = reach,
};

/* What one probe has said: "what=cause;" for each thing that was not ok, and how many were. */
struct outcome {
    struct buf said;
    unsigned ok_count;
    unsigned left_count; /* objects that are still there */
    bool good;
    bool strayed; /* a key outside prefix/.eider-check/ */
};

static void note(void *context, const struct store_probe_finding *finding)
{
    struct outcome *outcome = context;
    if (finding->verdict == STORE_PROBE_OK) {
        outcome->ok_count++;
        return;
    }
    buf_append_format(&outcome->said, "%s %s %d;",
                      finding->verdict == STORE_PROBE_WARN ? "warn" : "FAIL", finding->what,
                      (int)finding->cause);
}

static struct outcome probe(enum flaw flaw)
{
    struct outcome outcome = {.good = false};
    struct fake *fake = mem_alloc(sizeof(*fake));
    struct cancel cancel;
    buf_init(&outcome.said, 4096);
    cancel_init(&cancel, INT64_MAX);
    fake->base.operations = &operations;
    fake->flaw = flaw;
    lock_init(&fake->lock, LOCK_STORE);
    outcome.good = store_probe(&fake->base,
                               &(struct store_probe_options){.prefix = STR("pre/"),
                                                             .writers = WRITERS,
                                                             .rounds = ROUNDS,
                                                             .tell = note,
                                                             .context = &outcome},
                               &cancel);
    for (const struct object *at = fake->objects; at->key[0] != '\0'; at++) {
        outcome.left_count += at->there;
        outcome.strayed |= !str_starts(str_of(at->key), STR("pre/.eider-check/"));
    }
    lock_finish(&fake->lock);
    cancel_finish(&cancel);
    mem_free(fake);
    return outcome;
}

/* A flaw gives exactly these findings, and leaves that many objects. */
static bool finds(enum flaw flaw, bool good, unsigned left, const char *format, int cause)
{
    struct outcome outcome = probe(flaw);
    char expected[100];
    (void)snprintf(expected, sizeof(expected), "%s %d;", format, cause);
    bool same = str_equal(buf_str(&outcome.said), str_of(expected)) && outcome.good == good &&
                outcome.left_count == left && !outcome.strayed;
    if (!same) {
        (void)fprintf(stderr, "flaw %d: %.*s, %u left, good: %d\n", (int)flaw,
                      STR_ARG(buf_str(&outcome.said)), outcome.left_count, outcome.good);
    }
    buf_finish(&outcome.said);
    return same;
}

TEST(a_store_without_flaw)
{
    struct outcome outcome = probe(FLAW_NONE);
    CHECK(outcome.good);
    CHECK_U64(outcome.said.len, 0);
    CHECK_U64(outcome.ok_count, 8);
    CHECK_U64(outcome.left_count, 0);
    CHECK(!outcome.strayed);
    buf_finish(&outcome.said);
}

TEST(what_cannot_be_used_is_one_finding)
{
    CHECK(finds(FLAW_UNREACHABLE, false, 0, "FAIL reach", STORE_CAUSE_NO_CONNECTION));
    CHECK(finds(FLAW_REFUSES_PUTS, false, 0, "FAIL write", STORE_CAUSE_DENIED));
}

TEST(create_only_that_is_none)
{
    CHECK(finds(FLAW_OVERWRITES, false, 0, "FAIL create-only", STORE_CAUSE_OVERWRITES));
    CHECK(finds(FLAW_SEVERAL_WIN, false, 0, "FAIL races", STORE_CAUSE_RACES));
    CHECK(finds(FLAW_LAST_WINS, false, 0, "FAIL races", STORE_CAUSE_RACES));
    CHECK(finds(FLAW_SOME_FAIL, true, 0, "warn races", STORE_CAUSE_FAILED));
}

TEST(what_was_written_is_not_seen)
{
    CHECK(finds(FLAW_LISTS_LATE, false, 0, "FAIL list", STORE_CAUSE_STALE));
    CHECK(finds(FLAW_NO_ETAG, true, 0, "warn etag", STORE_CAUSE_NO_ETAG));
    struct outcome outcome = probe(FLAW_READS_OLD); /* every reading of it fails */
    CHECK(!outcome.good);
    CHECK(str_starts(buf_str(&outcome.said), STR("FAIL read ")));
    CHECK_U64(outcome.left_count, 0);
    buf_finish(&outcome.said);
}

TEST(what_is_deleted_stays)
{
    CHECK(finds(FLAW_KEEPS_DELETED, true, 1 + ROUNDS, "warn delete", STORE_CAUSE_STALE));
    CHECK(finds(FLAW_REFUSES_DELETES, true, 1 + ROUNDS, "warn delete", STORE_CAUSE_CANNOT_DELETE));
}

static const struct test_case cases[] = {
    TEST_CASE(a_store_without_flaw),     TEST_CASE(what_cannot_be_used_is_one_finding),
    TEST_CASE(create_only_that_is_none), TEST_CASE(what_was_written_is_not_seen),
    TEST_CASE(what_is_deleted_stays),
};
TEST_MAIN(cases)
