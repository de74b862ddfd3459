/* wal_scene.h - a log on a simulated disk, what was promised about its records, and whether an
 * image of the disk keeps those promises. */
#pragma once

#include "sim_disk.h"
#include "wal.h"

/* Sanitizers make it some ten times slower: there, a part of the cases has to do. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SCENE_IS_SLOW 1
#elif defined(__has_feature)
#define SCENE_IS_SLOW (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#else
#define SCENE_IS_SLOW 0
#endif

enum {
    SCENE_RECORDS = 256,
    SCENE_TYPE = WAL_TYPE_FIRST + 3,
    SCENE_SEGMENT = 16384,          /* of a small scene; `scale` makes it larger, and its records */
    SCENE_AFTER = SCENE_RECORDS - 1 /* the id of a record that the check itself appends */
};

/* What is known of a record at some moment. */
enum scene_state {
    SCENE_NONE,
    SCENE_SUBMITTED, /* may be there, whole */
    SCENE_ACKED,     /* has to be there */
    SCENE_REFUSED    /* must not be there */
};

enum scene_event {
    EVENT_SUBMIT,
    EVENT_ACK,
    EVENT_REFUSE,
    EVENT_TRIM /* the value is the sequence, not an id */
};

struct oracle {
    size_t scale;
    enum scene_state states[SCENE_RECORDS];
    uint64_t sequences[SCENE_RECORDS]; /* of the acknowledged */
    uint64_t trimmed;                  /* records before may be gone */
};

struct scene {
    struct sim *sim;
    size_t scale;
    struct wal *wal;
    struct wal_options options;
    struct err err;
    size_t submitted; /* ids are 0, 1, ... */
    uint64_t sequences[SCENE_RECORDS];
    size_t done; /* guarded by the mutex */
    size_t acked;
    unsigned broken;
    bool opened; /* the last wal_open went well */
    uint64_t last_sequence;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
};

/* ---- payloads: the id, then bytes that follow from it ---- */

static inline char scene_byte(uint32_t id, size_t i)
{
    return (char)(id * 31 + i * 7 + (i >> 8));
}

static inline void scene_payload(uint32_t id, size_t size, struct buf *into)
{
    buf_init(into, 1 << 20);
    char *at = buf_room(into, size);
    assert(at != NULL);
    memcpy(at, &id, sizeof(id));
    for (size_t i = sizeof(id); i < size; i++) {
        at[i] = scene_byte(id, i);
    }
    buf_wrote(into, at + size);
}

static inline bool scene_payload_is_whole(struct str payload, uint32_t *ret_id)
{
    if (payload.len < sizeof(*ret_id)) {
        return false;
    }
    memcpy(ret_id, payload.ptr, sizeof(*ret_id));
    for (size_t i = sizeof(*ret_id); i < payload.len; i++) {
        if (payload.ptr[i] != scene_byte(*ret_id, i)) {
            return false;
        }
    }
    return true;
}

static inline size_t scene_size(uint32_t id)
{
    static const size_t sizes[] = {4, 100, 700, 33, 5000, 8, 2048, 511, 4096, 1500, 13, 6500};
    return sizes[id % COUNT_OF(sizes)];
}

/* ---- running ---- */

struct scene_one {
    struct scene *scene;
    uint32_t id;
};

static inline void scene_done(void *context, const struct wal_place *place, const struct err *err)
{
    struct scene_one *one = context;
    struct scene *scene = one->scene;
    if (place != NULL) {
        scene->sequences[one->id] = place->sequence;
        sim_event(scene->sim, EVENT_ACK, one->id);
    } else if (err->kind == ERR_BUSY) {
        sim_event(scene->sim, EVENT_REFUSE, one->id);
    }
    (void)pthread_mutex_lock(&scene->mutex);
    if (place != NULL) {
        scene->acked++;
        scene->last_sequence = place->sequence;
    }
    scene->done++;
    (void)pthread_cond_broadcast(&scene->changed);
    (void)pthread_mutex_unlock(&scene->mutex);
    mem_free(one);
}

static inline void scene_broken(void *context, const struct err *err)
{
    struct scene *scene = context;
    (void)err;
    (void)pthread_mutex_lock(&scene->mutex);
    scene->broken++;
    (void)pthread_cond_broadcast(&scene->changed);
    (void)pthread_mutex_unlock(&scene->mutex);
}

static inline void scene_prologue(void *context, struct buf *into)
{
    (void)context;
    buf_append_text(into, "the prologue of a segment");
}

/* Queues the next record. */
static inline bool scene_submit_sized(struct scene *scene, size_t size, bool urgent)
{
    struct buf payload;
    struct scene_one *one = mem_alloc(sizeof(*one));
    *one = (struct scene_one){scene, (uint32_t)scene->submitted};
    assert(scene->submitted < SCENE_AFTER);
    scene_payload(one->id, size, &payload);
    const struct wal_record record = {
        .type = SCENE_TYPE, .urgent = urgent, .done = scene_done, .context = one};
    uint32_t id = one->id;
    scene->submitted++;
    sim_event(scene->sim, EVENT_SUBMIT, id);
    bool queued = wal_append(scene->wal, &record, &payload, &scene->err);
    if (!queued) {
        sim_event(scene->sim, EVENT_REFUSE, id);
        (void)pthread_mutex_lock(&scene->mutex);
        scene->done++;
        (void)pthread_mutex_unlock(&scene->mutex);
        mem_free(one);
    }
    return queued;
}

static inline void scene_submit(struct scene *scene)
{
    size_t size = scene_size((uint32_t)scene->submitted);
    (void)scene_submit_sized(scene, size * scene->scale, false);
}

static inline void scene_settle(struct scene *scene)
{
    (void)pthread_mutex_lock(&scene->mutex);
    while (scene->done < scene->submitted) {
        (void)pthread_cond_wait(&scene->changed, &scene->mutex);
    }
    (void)pthread_mutex_unlock(&scene->mutex);
}

/* Some one after the other, then as many that are synced together. */
static inline void scene_append(struct scene *scene, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        scene_submit(scene);
        scene_settle(scene);
    }
}

static inline void scene_append_together(struct scene *scene, size_t count)
{
    sim_hold(scene->sim);
    for (size_t i = 0; i < count; i++) {
        scene_submit(scene);
    }
    sim_release(scene->sim);
    scene_settle(scene);
}

static inline bool scene_trim(struct scene *scene, uint64_t sequence)
{
    sim_event(scene->sim, EVENT_TRIM, sequence);
    return wal_trim(scene->wal, sequence, &scene->err);
}

static inline void scene_init(struct scene *scene, struct sim *sim, size_t scale)
{
    *scene = (struct scene){.sim = sim, .scale = scale};
    (void)pthread_mutex_init(&scene->mutex, NULL);
    (void)pthread_cond_init(&scene->changed, NULL);
    scene->options = (struct wal_options){
        .folder = "/simulated",
        .segment_bytes = SCENE_SEGMENT * scale,
        .queue_bytes_max = 1 << 20,
        .io = &sim->io,
        .context = scene,
        .prologue = scene_prologue,
        .broken = scene_broken,
    };
}

static inline void scene_finish(struct scene *scene)
{
    wal_close(scene->wal);
    (void)pthread_cond_destroy(&scene->changed);
    (void)pthread_mutex_destroy(&scene->mutex);
}

static inline bool scene_open(struct scene *scene)
{
    wal_close(scene->wal);
    scene->wal = NULL;
    scene->opened = false;
    if (scene->broken == 0) { /* the process would have ended */
        scene->wal = wal_open(&scene->options, &scene->err);
    }
    scene->opened = scene->wal != NULL || scene->broken > 0;
    return scene->wal != NULL;
}

/* The canonical scenario: several sizes, alone and together, rotations, trims, a record larger than
 * a segment, two starts after the first. Stops where the log cannot be opened. */
static inline void scene_play(struct scene *scene)
{
    if (!scene_open(scene)) {
        return;
    }
    scene_append(scene, 4);
    scene_append_together(scene, 6);
    scene_append(scene, 3);
    (void)scene_trim(scene, scene->sequences[8]);
    scene_append_together(scene, 9);
    if (!scene_open(scene)) {
        return;
    }
    scene_append(scene, 5);
    (void)scene_trim(scene, scene->last_sequence);
    (void)scene_submit_sized(scene, 20000 * scene->scale, false);
    scene_settle(scene);
    wal_rotate(scene->wal);
    scene_append(scene, 2);
    (void)scene_trim(scene, scene->last_sequence);
    scene_append_together(scene, 4);
    if (scene_open(scene)) {
        scene_append(scene, 3);
        scene_append_together(scene, 12);
    }
}

/* ---- judging ---- */

/* What the test did, as far as operation `end` of the disk. */
static inline void oracle_note(struct oracle *oracle, const struct scene *scene,
                               const struct sim_op *op)
{
    if (op->kind != SIM_EVENT) {
        return;
    }
    if (op->size == EVENT_TRIM) {
        oracle->trimmed = op->offset > oracle->trimmed ? op->offset : oracle->trimmed;
        return;
    }
    static const enum scene_state states[] = {SCENE_SUBMITTED, SCENE_ACKED, SCENE_REFUSED};
    oracle->states[op->offset] = states[op->size];
    oracle->sequences[op->offset] = op->size == EVENT_ACK ? scene->sequences[op->offset] : 0;
}

struct verdict {
    const struct oracle *oracle;
    struct wal_place places[SCENE_RECORDS];
    uint32_t ids[SCENE_RECORDS];
    size_t count;
    const char *wrong; /* NULL: all is well */
    uint64_t last_sequence;
    uint64_t after; /* the sequence of SCENE_AFTER, when it was found */
};

static inline bool verdict_replay(void *context, const struct wal_place *place, unsigned type,
                                  struct str payload, struct err *err)
{
    struct verdict *verdict = context;
    uint32_t id;
    (void)err;
    if (place->sequence <= verdict->last_sequence) {
        verdict->wrong = "sequences do not go up";
    }
    verdict->last_sequence = place->sequence;
    if (type == WAL_TYPE_PROLOGUE) {
        if (!str_equal(payload, STR("the prologue of a segment"))) {
            verdict->wrong = "a prologue is not whole";
        }
        return true;
    }
    if (type != SCENE_TYPE || !scene_payload_is_whole(payload, &id) || id >= SCENE_RECORDS) {
        verdict->wrong = "a record is not whole";
        return true;
    }
    if (id == SCENE_AFTER) {
        verdict->after = place->sequence;
        return true;
    }
    if (verdict->after != 0) {
        verdict->wrong = "an older record comes after a newer one";
    }
    if (verdict->count > 0 && id <= verdict->ids[verdict->count - 1]) {
        verdict->wrong = "records are not in their order";
    }
    if (verdict->count < SCENE_RECORDS) {
        verdict->places[verdict->count] = *place;
        verdict->ids[verdict->count++] = id;
    }
    return true;
}

/* Everything between the first and the last record that is there, and everything that has to be. */
static inline void verdict_conclude(struct verdict *verdict)
{
    const struct oracle *oracle = verdict->oracle;
    size_t at = 0;
    bool ended = false;
    for (uint32_t id = 0; id < SCENE_AFTER && verdict->wrong == NULL; id++) {
        bool there = at < verdict->count && verdict->ids[at] == id;
        enum scene_state state = oracle->states[id];
        if (there && (state == SCENE_NONE || state == SCENE_REFUSED)) {
            verdict->wrong = "a record is there that must not be";
        } else if (there && state == SCENE_ACKED &&
                   verdict->places[at].sequence != oracle->sequences[id]) {
            verdict->wrong = "a record has another sequence than it was acknowledged with";
        } else if (there && ended) {
            verdict->wrong = "a record is missing between others";
        } else if (!there && state == SCENE_ACKED && oracle->sequences[id] >= oracle->trimmed) {
            verdict->wrong = "an acknowledged record is missing";
        } else if (!there && at > 0 && (state == SCENE_SUBMITTED || state == SCENE_ACKED)) {
            ended = true;
        }
        at += there ? 1 : 0;
    }
}

/* Starts the log on a disk and compares. NULL when every promise is kept. The disk stays. */
static inline const char *judge(struct sim *sim, const struct oracle *oracle, bool go_on)
{
    static _Thread_local char text[1700];
    struct err err = {0};
    uint64_t after = 0;
    for (unsigned round = 0; round < (go_on ? 2 : 1); round++) {
        struct verdict verdict = {.oracle = oracle};
        const struct wal_options options = {
            .folder = "/simulated",
            .segment_bytes = SCENE_SEGMENT * oracle->scale,
            .queue_bytes_max = 1 << 20,
            .io = &sim->io,
            .context = &verdict,
            .prologue = scene_prologue,
            .replay = verdict_replay,
        };
        struct wal *wal = wal_open(&options, &err);
        if (wal == NULL) {
            (void)snprintf(text, sizeof(text), "the log does not start: %s (%s)", err.message,
                           err.detail);
            return text;
        }
        verdict_conclude(&verdict);
        if (go_on && round == 0) {
            struct buf payload;
            struct wal_place place = {0};
            const struct wal_record record = {.type = SCENE_TYPE};
            scene_payload(SCENE_AFTER, 300, &payload);
            if (!wal_append_wait(wal, &record, &payload, &place, &err)) {
                verdict.wrong = "the log cannot be written after a crash";
            }
            after = place.sequence;
        } else if (verdict.after != after) {
            verdict.wrong = "a record appended after a crash is missing";
        }
        wal_close(wal);
        if (verdict.wrong != NULL) {
            return verdict.wrong;
        }
    }
    return NULL;
}
