/* The probe of any store: what is written can be read, listed and deleted, and only one of many who
 * create the same object succeeds. */
#include "store_probe_internal.h"

#include "clock.h"
#include "digest.h"
#include "thread.h"

#include <stdio.h>

#define FIRST_TEXT "the first text\n"
#define OTHER_TEXT "another text, which should be nowhere\n"

/* --- telling --- */

static void tell(struct store_probe *probe, const struct store_probe_finding *finding)
{
    probe->failed = probe->failed || finding->verdict == STORE_PROBE_FAIL;
    probe->options->tell(probe->options->context, finding);
}

void probe_tell(struct store_probe *probe, const char *what, enum store_probe_verdict verdict,
                enum store_cause cause, const char *format, ...)
{
    char found[1024];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(found, sizeof(found), format, arguments);
    va_end(arguments);
    tell(probe, &(struct store_probe_finding){
                    .verdict = verdict, .cause = cause, .what = what, .found = found});
}

static void tell_ok(struct store_probe *probe, const char *what, const char *found)
{
    probe_tell(probe, what, STORE_PROBE_OK, STORE_CAUSE_NONE, "%s", found);
}

static enum store_cause cause_of(const struct err *err)
{
    switch ((unsigned)err->kind) {
    case ERR_STORE_DENIED:
        return STORE_CAUSE_DENIED;
    case ERR_STORE_MISSING:
        return STORE_CAUSE_STALE;
    case ERR_TIMEOUT:
    case ERR_UNCERTAIN:
        return STORE_CAUSE_SILENT;
    default:
        return STORE_CAUSE_FAILED;
    }
}

void probe_tell_error(struct store_probe *probe, const char *what, const struct err *err)
{
    probe_tell(probe, what, STORE_PROBE_FAIL, cause_of(err), "%s%s%s", err->message,
               err->detail[0] == '\0' ? "" : "; ", err->detail);
}

/* --- the probe's own objects --- */

struct probe_key probe_key_of(const struct store_probe *probe, const char *name)
{
    struct probe_key key;
    (void)snprintf(key.text, sizeof(key.text), "%.*s.eider-check/%s-%s",
                   STR_ARG(probe->options->prefix), probe->id, name);
    return key;
}

static bool put_text(struct store_probe *probe, const struct probe_key *key, const char *text,
                     struct cancel *cancel, struct store_object *ret_object, struct err *err)
{
    const struct store_source source = {.bytes = str_of(text), .fd = -1};
    return store_put(probe->store, str_of(key->text), &source,
                     &(struct store_put_options){.create_only = true}, cancel, ret_object, err);
}

/* Whether the object is there and holds exactly this text. */
static bool holds(struct store_probe *probe, const struct probe_key *key, const char *text,
                  struct err *err)
{
    CLEANUP(buf_finish) struct buf bytes;
    buf_init(&bytes, 4096);
    return store_get(probe->store, str_of(key->text), &bytes, probe->cancel, NULL, err) &&
           (str_equal(buf_str(&bytes), str_of(text)) ||
            err_set(err, ERR_STORE_MISSING, "\"%s\" holds another text than was written",
                    key->text));
}

/* --- one object --- */

static void check_write(struct store_probe *probe, struct store_object *ret_object)
{
    struct err err;
    struct probe_key key = probe_key_of(probe, "object");
    int64_t begin_us = clock_now_us();
    if (!put_text(probe, &key, FIRST_TEXT, probe->cancel, ret_object, &err)) {
        struct err ignored;
        probe->stopped = true;
        probe_tell_error(probe, "write", &err);
        (void)!store_delete(probe->store, str_of(key.text), probe->cancel, &ignored);
        return;
    }
    probe_tell(probe, "write", STORE_PROBE_OK, STORE_CAUSE_NONE, "an object was stored in %.1f ms",
               (double)(clock_now_us() - begin_us) / 1000);
}

static void check_read(struct store_probe *probe)
{
    struct err err;
    struct probe_key key = probe_key_of(probe, "object");
    if (!holds(probe, &key, FIRST_TEXT, &err)) {
        probe_tell_error(probe, "read", &err);
        return;
    }
    tell_ok(probe, "read", "what was written is read back at once");
}

static void check_etag(struct store_probe *probe, const struct store_object *put)
{
    struct err err;
    struct store_object first;
    struct store_object second;
    struct probe_key key = probe_key_of(probe, "object");
    if (!store_head(probe->store, str_of(key.text), probe->cancel, &first, &err) ||
        !store_head(probe->store, str_of(key.text), probe->cancel, &second, &err)) {
        probe_tell_error(probe, "etag", &err);
    } else if (first.size != strlen(FIRST_TEXT)) {
        probe_tell(probe, "etag", STORE_PROBE_FAIL, STORE_CAUSE_STALE,
                   "an object of %zu bytes is said to have %llu", strlen(FIRST_TEXT),
                   (unsigned long long)first.size);
    } else if (first.etag[0] == '\0' || strcmp(first.etag, second.etag) != 0 ||
               (put->etag[0] != '\0' && strcmp(put->etag, first.etag) != 0)) {
        probe_tell(probe, "etag", STORE_PROBE_WARN, STORE_CAUSE_NO_ETAG,
                   "one object showed the ETags %s, %s and %s",
                   put->etag[0] == '\0' ? "(none)" : put->etag,
                   first.etag[0] == '\0' ? "(none)" : first.etag,
                   second.etag[0] == '\0' ? "(none)" : second.etag);
    } else {
        tell_ok(probe, "etag", "the ETag stays the same as long as the object does");
    }
}

struct listing {
    struct str wanted;
    uint64_t size;
    bool found;
};

static bool look_for(void *context, struct str key, const struct store_object *object,
                     struct err *err)
{
    struct listing *listing = context;
    (void)err;
    if (str_equal(key, listing->wanted)) {
        listing->found = true;
        listing->size = object->size;
    }
    return true;
}

static bool list(struct store_probe *probe, const struct probe_key *key, struct listing *listing,
                 struct err *err)
{
    struct str wanted = str_of(key->text);
    *listing = (struct listing){.wanted = wanted};
    struct str prefix = str_first(wanted, probe->options->prefix.len + strlen(".eider-check/"));
    return store_list(probe->store, prefix, look_for, listing, probe->cancel, err);
}

static void check_list(struct store_probe *probe)
{
    struct err err;
    struct listing listing;
    struct probe_key key = probe_key_of(probe, "object");
    if (!list(probe, &key, &listing, &err)) {
        probe_tell_error(probe, "list", &err);
    } else if (!listing.found || listing.size != strlen(FIRST_TEXT)) {
        probe_tell(probe, "list", STORE_PROBE_FAIL, STORE_CAUSE_STALE,
                   "an object just written is %s",
                   listing.found ? "listed with another size" : "not in the list");
    } else {
        tell_ok(probe, "list", "what was written is listed at once");
    }
}

static void check_create_only(struct store_probe *probe)
{
    struct err err;
    struct store_object object;
    struct probe_key key = probe_key_of(probe, "object");
    bool replaced = put_text(probe, &key, OTHER_TEXT, probe->cancel, &object, &err);
    if (replaced) {
        probe_tell(probe, "create-only", STORE_PROBE_FAIL, STORE_CAUSE_OVERWRITES,
                   "a create-only put (If-None-Match: *) of an existing object succeeded");
    } else if (err.kind != ERR_CONFLICT) {
        probe_tell_error(probe, "create-only", &err);
    } else if (!holds(probe, &key, FIRST_TEXT, &err)) {
        probe_tell(probe, "create-only", STORE_PROBE_FAIL, STORE_CAUSE_OVERWRITES,
                   "a create-only put was refused and replaced the object all the same: %s",
                   err.message);
    } else {
        tell_ok(probe, "create-only", "a create-only put of an existing object is refused");
    }
}

/* --- many writers --- */

struct race {
    struct store_probe *probe;
    struct probe_key key;
    pthread_barrier_t start;
};

enum racer_end {
    RACER_WON,
    RACER_LOST,
    RACER_FAILED
};

struct racer {
    struct race *race;
    pthread_t thread;
    char text[32];
    enum racer_end end;
    struct err err;
};

static void *run_racer(void *argument)
{
    struct racer *racer = argument;
    struct race *race = racer->race;
    struct store_object object;
    struct cancel cancel;
    cancel_init(&cancel, race->probe->cancel->deadline_ms);
    (void)pthread_barrier_wait(&race->start);
    bool won = put_text(race->probe, &race->key, racer->text, &cancel, &object, &racer->err);
    racer->end = won ? RACER_WON : racer->err.kind == ERR_CONFLICT ? RACER_LOST : RACER_FAILED;
    cancel_finish(&cancel);
    return NULL;
}

struct race_result {
    unsigned ends[3]; /* by enum racer_end */
    bool winner_kept;
    struct err err; /* of one that failed */
};

static void judge_race(struct store_probe *probe, const struct race *race,
                       const struct racer *racers, struct race_result *result)
{
    for (unsigned i = 0; i < probe->options->writers; i++) {
        struct err err;
        result->ends[racers[i].end]++;
        if (racers[i].end == RACER_FAILED) {
            result->err = racers[i].err;
        } else if (racers[i].end == RACER_WON) {
            result->winner_kept = holds(probe, &race->key, racers[i].text, &err);
        }
    }
}

static struct race_result run_race(struct store_probe *probe, unsigned round)
{
    struct race_result result = {.winner_kept = false};
    struct racer racers[STORE_PROBE_WRITERS_MAX];
    struct race race = {.probe = probe};
    unsigned writers = probe->options->writers;
    char name[24];
    (void)snprintf(name, sizeof(name), "race-%u", round);
    race.key = probe_key_of(probe, name);
    (void)pthread_barrier_init(&race.start, NULL, writers);
    for (unsigned i = 0; i < writers; i++) {
        racers[i] = (struct racer){.race = &race};
        (void)snprintf(racers[i].text, sizeof(racers[i].text), "writer %u\n", i);
        racers[i].thread = thread_start("probe", run_racer, &racers[i]);
    }
    for (unsigned i = 0; i < writers; i++) {
        (void)pthread_join(racers[i].thread, NULL);
    }
    (void)pthread_barrier_destroy(&race.start);
    judge_race(probe, &race, racers, &result);
    return result;
}

static bool tell_race(struct store_probe *probe, unsigned round, const struct race_result *result)
{
    unsigned writers = probe->options->writers;
    unsigned won = result->ends[RACER_WON];
    if (won > 1 || (won == 1 && !result->winner_kept)) {
        probe_tell(probe, "races", STORE_PROBE_FAIL, STORE_CAUSE_RACES,
                   "in round %u, %u of %u create-only puts of one key at once succeeded%s", round,
                   won, writers, won > 1 ? "" : ", and another one's bytes were stored");
        return true;
    }
    if (result->ends[RACER_FAILED] > 0 || won == 0) {
        probe_tell(probe, "races", won == 1 ? STORE_PROBE_WARN : STORE_PROBE_FAIL,
                   STORE_CAUSE_FAILED,
                   "in round %u, %u of %u create-only puts of one key at once succeeded and %u "
                   "failed%s%s",
                   round, won, writers, result->ends[RACER_FAILED],
                   result->ends[RACER_FAILED] > 0 ? ": " : "",
                   result->ends[RACER_FAILED] > 0 ? result->err.message : "");
        return true;
    }
    return false;
}

static void check_races(struct store_probe *probe)
{
    for (unsigned round = 1; round <= probe->options->rounds; round++) {
        struct race_result result = run_race(probe, round);
        if (tell_race(probe, round, &result)) {
            return;
        }
    }
    probe_tell(probe, "races", STORE_PROBE_OK, STORE_CAUSE_NONE,
               "of %u writers that create one object at once, exactly one succeeds (%u rounds)",
               probe->options->writers, probe->options->rounds);
}

/* --- the end --- */

static bool remove_name(struct store_probe *probe, const char *name, struct err *err)
{
    struct probe_key key = probe_key_of(probe, name);
    return store_delete(probe->store, str_of(key.text), probe->cancel, err);
}

static bool remove_all(struct store_probe *probe, struct err *err)
{
    static const char *const names[] = {"object", "condition", "checksum"};
    bool good = true;
    for (size_t i = 0; good && i < COUNT_OF(names); i++) {
        good = remove_name(probe, names[i], err);
    }
    for (unsigned round = 1; good && round <= probe->options->rounds; round++) {
        char name[24];
        (void)snprintf(name, sizeof(name), "race-%u", round);
        good = remove_name(probe, name, err);
    }
    return good;
}

static void check_delete(struct store_probe *probe)
{
    struct err err;
    struct store_object object;
    struct listing listing = {.found = false};
    struct probe_key key = probe_key_of(probe, "object");
    if (!remove_all(probe, &err)) {
        probe_tell(probe, "delete", STORE_PROBE_WARN, STORE_CAUSE_CANNOT_DELETE,
                   "%s; objects of this check are left, their keys begin with \"%.*s\"",
                   err.message, (int)(strlen(key.text) - strlen("-object")), key.text);
    } else if (store_head(probe->store, str_of(key.text), probe->cancel, &object, &err) ||
               err.kind != ERR_STORE_MISSING || !list(probe, &key, &listing, &err) ||
               listing.found) {
        probe_tell(probe, "delete", STORE_PROBE_WARN, STORE_CAUSE_STALE,
                   "an object that was deleted is still %s", listing.found ? "listed" : "found");
    } else {
        tell_ok(probe, "delete", "what is deleted is gone at once; nothing of this check is left");
    }
}

bool store_probe(struct store *store, const struct store_probe_options *options,
                 struct cancel *cancel)
{
    assert(options->writers >= 2 && options->writers <= STORE_PROBE_WRITERS_MAX);
    assert(options->rounds >= 1 && options->rounds <= STORE_PROBE_ROUNDS_MAX);
    const struct store_operations *operations = store->operations;
    struct store_probe probe = {.store = store, .options = options, .cancel = cancel};
    struct store_object object = {.size = 0};
    unsigned char random[8];
    digest_random(random, sizeof(random));
    digest_hex(random, sizeof(random), probe.id);
    if (!operations->probe_reach(store, &probe)) {
        return false;
    }
    check_write(&probe, &object);
    if (!probe.stopped) {
        check_read(&probe);
        check_etag(&probe, &object);
        check_list(&probe);
        check_create_only(&probe);
        if (operations->probe_conditions != NULL) {
            operations->probe_conditions(store, &probe);
        }
        check_races(&probe);
        check_delete(&probe);
    }
    if (operations->probe_end != NULL) {
        operations->probe_end(store, &probe);
    }
    return !probe.failed;
}
