/* A disk that fails: every call of a scenario fails once, with every errno; bits change; space runs
 * out. */
#include "test.h"

#include "wal_internal.h"
#include "wal_scene.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- the disk as it is left behind ---- */

/* Of what was not synced, nothing. */
static void power_cut_image(const struct sim *sim, struct sim_image *ret_image)
{
    *ret_image = (struct sim_image){0};
    for (size_t i = 0; i < sim->ops_count; i++) {
        if (sim->ops[i].sure) {
            sim_apply(ret_image, &sim->ops[i]);
        }
    }
}

static const char *judge_image(struct sim_image *image_take, const struct oracle *oracle)
{
    struct sim sim;
    sim_init(&sim, image_take);
    const char *wrong = judge(&sim, oracle, true);
    sim_finish(&sim);
    return wrong;
}

/* What a kill and what a power cut leaves after the scene. */
static const char *judge_scene(const struct scene *scene)
{
    struct sim_image image;
    struct oracle oracle = {.scale = scene->scale};
    for (size_t i = 0; i < scene->sim->ops_count; i++) {
        oracle_note(&oracle, scene, &scene->sim->ops[i]);
    }
    sim_image_copy(&scene->sim->now, &image);
    const char *wrong = judge_image(&image, &oracle);
    if (wrong == NULL) {
        power_cut_image(scene->sim, &image);
        wrong = judge_image(&image, &oracle);
    }
    return wrong;
}

/* ---- errno at the k-th call ---- */

struct injection {
    int code;
    bool goes_on;
    size_t at;
    bool reached;
    enum sim_kind kind;
};

static bool acked_since(const struct sim *sim, size_t first)
{
    for (size_t i = first; i < sim->ops_count; i++) {
        if (sim->ops[i].kind == SIM_EVENT && sim->ops[i].size == EVENT_ACK) {
            return true;
        }
    }
    return false;
}

/* What has to hold besides that no record is lost. */
static const char *judge_behaviour(const struct injection *injection, const struct scene *scene)
{
    const struct sim *sim = scene->sim;
    bool must_break = sim->failed_kind == SIM_WRITE || sim->failed_kind == SIM_SYNC ||
                      sim->failed_kind == SIM_SYNC_FOLDER || sim->failed_kind == SIM_RENAME;
    bool room_only = sim->failed_kind == SIM_CREATE || sim->failed_kind == SIM_RESERVE;
    if (injection->code == EINTR) {
        return scene->acked == scene->submitted && scene->broken == 0 ? NULL : "a signal did harm";
    }
    if (scene->broken > 1) {
        return "`broken` was called twice";
    }
    if (injection->code == EIO && must_break && acked_since(sim, sim->failed_at_op)) {
        return "a record was acknowledged after the disk had failed";
    }
    if (injection->code == EIO && must_break && scene->opened && scene->broken == 0) {
        return "the log did not break";
    }
    if (injection->code != EIO && !injection->goes_on && room_only && scene->broken > 0) {
        return "a full disk broke the log";
    }
    return NULL;
}

static const char *run_injected(struct injection *injection)
{
    struct sim sim;
    struct scene scene;
    sim_init(&sim, NULL);
    sim.fail_at = injection->at;
    sim.fail_code = injection->code;
    sim.fails_on = injection->goes_on;
    scene_init(&scene, &sim, 1);
    scene_play(&scene);
    wal_close(scene.wal);
    scene.wal = NULL;
    injection->reached = sim.failed;
    injection->kind = sim.failed_kind;
    const char *wrong = injection->reached ? judge_behaviour(injection, &scene) : NULL;
    sim.fail_at = 0;
    wrong = wrong == NULL ? judge_scene(&scene) : wrong;
    scene_finish(&scene);
    sim_finish(&sim);
    return wrong;
}

/* Each call of the scenario in turn. The number of calls, or 0 when something went wrong. */
static size_t inject_all(int code, bool goes_on)
{
    struct injection injection = {.code = code, .goes_on = goes_on, .reached = true};
    size_t wrong_count = 0;
    while (injection.reached) {
        injection.at++;
        const char *wrong = run_injected(&injection);
        if (wrong != NULL && ++wrong_count <= 5) {
            fprintf(stderr, "%s%s at call %zu (kind %d): %s\n", strerror(code),
                    goes_on ? " from then on" : "", injection.at, (int)injection.kind, wrong);
        }
    }
    printf("     %s%s at each of %zu calls\n", strerror(code), goes_on ? " from then on" : "",
           injection.at - 1);
    return wrong_count == 0 ? injection.at - 1 : 0;
}

TEST(wal_survives_an_errno_at_every_call)
{
    CHECK(inject_all(EIO, false) > 100);
    CHECK(inject_all(ENOSPC, false) > 100);
    CHECK(inject_all(EINTR, false) > 100);
    if (!SCENE_IS_SLOW) {
        CHECK(inject_all(EIO, true) > 100);
        CHECK(inject_all(ENOSPC, true) > 100);
        CHECK(inject_all(EDQUOT, false) > 100);
    }
}

TEST(wal_goes_on_after_short_writes)
{
    struct sim sim;
    struct scene scene;
    sim_init(&sim, NULL);
    sim.short_writes = true;
    scene_init(&scene, &sim, 1);
    scene_play(&scene);
    CHECK_U64(scene.acked, scene.submitted);
    wal_close(scene.wal);
    scene.wal = NULL;
    const char *wrong = judge_scene(&scene);
    CHECK_STR(str_of(wrong == NULL ? "" : wrong), "");
    scene_finish(&scene);
    sim_finish(&sim);
}

/* ---- bits that change ---- */

static bool scan_replay(void *context, const struct wal_place *place,
                        const struct wal_record_header *header, struct str payload, struct err *err)
{
    return header->type == WAL_TYPE_HEARTBEAT ||
           verdict_replay(context, place, header->type, payload, err);
}

/* Reads the folder as a start does, without the start. */
static bool scan(struct sim *sim, const struct oracle *oracle, struct verdict *verdict,
                 struct err *err)
{
    struct wal_folder folder = {&sim->io, SIM_FOLDER_FD};
    struct wal_identity identity;
    struct wal_scan scan = {0};
    struct wal_scan_end end;
    bool found = false;
    *verdict = (struct verdict){.oracle = oracle};
    bool good = wal_identity_load(&folder, &identity, &found, err) && found &&
                wal_scan_init(&scan, &folder, &identity, err);
    for (size_t i = wal_scan_next(&scan, SIZE_MAX); good && i < scan.count;
         i = wal_scan_next(&scan, i)) {
        good = wal_scan_segment(&scan, i, scan_replay, verdict, &end, err);
    }
    wal_scan_finish(&scan);
    if (good) {
        verdict_conclude(verdict);
    }
    return good;
}

/* A log that was closed: a heartbeat vouches for the last batch. */
static void closed_log(struct scene *scene, struct sim *sim, struct oracle *oracle)
{
    sim_init(sim, NULL);
    scene_init(scene, sim, 4); /* segments of 64 KiB */
    (void)scene_open(scene);
    scene_append(scene, 12);
    scene_append_together(scene, 5);
    wal_close(scene->wal);
    scene->wal = NULL;
    *oracle = (struct oracle){.scale = scene->scale};
    for (size_t i = 0; i < sim->ops_count; i++) {
        oracle_note(oracle, scene, &sim->ops[i]);
    }
}

struct flips {
    size_t tried;
    size_t found;
    size_t harmless; /* in bytes that hold no acknowledged record */
    size_t missed;
};

#define FLIP_STEP (SCENE_IS_SLOW ? 61U : 1U)

static void flip_file(struct sim *sim, const struct oracle *oracle, struct sim_file *file,
                      size_t step, struct flips *flips)
{
    for (size_t i = 0; i < file->size; i += step) {
        struct verdict verdict;
        struct err err = {0};
        char bit = (char)(1 << (i * 5 % 8));
        file->bytes[i] ^= bit;
        bool good = scan(sim, oracle, &verdict, &err);
        flips->tried++;
        flips->found += !good && err.kind == ERR_CORRUPT ? 1 : 0;
        flips->harmless += good && verdict.wrong == NULL ? 1 : 0;
        flips->missed += (good && verdict.wrong != NULL) || (!good && err.kind != ERR_CORRUPT);
        file->bytes[i] ^= bit;
    }
}

TEST(wal_finds_every_bit_that_changes_in_acknowledged_records)
{
    struct sim sim;
    struct scene scene;
    struct oracle oracle;
    size_t files = 0;
    closed_log(&scene, &sim, &oracle);
    struct flips all = {0};
    for (size_t i = 0; i < SIM_FILES; i++) {
        const struct sim_name *name = &sim.now.names[i];
        struct flips flips = {0};
        if (name->id != 0 && !str_ends(str_of(name->name), STR(".new"))) {
            bool is_last = strcmp(name->name, "00000000000000000002.wal") == 0;
            flip_file(&sim, &oracle, sim_file(&sim.now, name->id),
                      is_last ? FLIP_STEP : 7 * FLIP_STEP, &flips);
            files += flips.tried > 0 ? 1 : 0;
            printf("     %s: %zu bits, %zu found, %zu harmless\n", name->name, flips.tried,
                   flips.found, flips.harmless);
        }
        all.tried += flips.tried;
        all.found += flips.found;
        all.missed += flips.missed;
    }
    CHECK(files >= 3);
    CHECK(all.tried > 65536 / FLIP_STEP);
    CHECK_U64(all.missed, 0);
    CHECK(all.found > 50000 / FLIP_STEP);
    scene_finish(&scene);
    sim_finish(&sim);
}

/* A start says which segment and where, and leaves the bytes alone. */
TEST(wal_refuses_to_start_on_damage_and_names_the_place)
{
    struct sim sim;
    struct scene scene;
    struct oracle oracle;
    closed_log(&scene, &sim, &oracle);
    struct sim_name *name = sim_name(&sim.now, "00000000000000000002.wal");
    CHECK(name != NULL);
    struct sim_file *file = sim_file(&sim.now, name->id);
    file->bytes[WAL_SEGMENT_HEADER_SIZE + 1000] ^= 1;
    assert(file->id != 0);
    uint64_t before = sim_image_hash(&(struct sim_image){.files = {*file}, .names = {*name}});
    for (unsigned i = 0; i < 2; i++) {
        CHECK(!scene_open(&scene));
        CHECK_U64(scene.err.kind, ERR_CORRUPT);
        CHECK(strstr(scene.err.message, "segment 2, offset ") != NULL);
    }
    CHECK_U64(sim_image_hash(&(struct sim_image){.files = {*file}, .names = {*name}}), before);
    scene_finish(&scene);
    sim_finish(&sim);
}

/* Takes a file's name away, and gives back what to restore it with. */
static struct sim_name hide(struct sim *sim, const char *name)
{
    struct sim_name *entry = sim_name(&sim->now, name);
    struct sim_name kept = {0};
    if (entry != NULL) {
        kept = *entry;
        entry->id = 0;
    }
    return kept;
}

TEST(wal_refuses_to_start_without_a_segment_or_an_identity)
{
    static const char *const needed[] = {"00000000000000000003.wal", "identity"};
    struct sim sim;
    struct scene scene;
    struct oracle oracle;
    closed_log(&scene, &sim, &oracle);
    CHECK(scene_open(&scene)); /* 1, 3 which replaces 2, and 4 */
    wal_close(scene.wal);
    scene.wal = NULL;
    for (size_t i = 0; i < COUNT_OF(needed); i++) {
        struct sim_name kept = hide(&sim, needed[i]);
        CHECK(kept.id != 0);
        CHECK(!scene_open(&scene));
        CHECK_U64(scene.err.kind, ERR_CORRUPT);
        sim_set_name(&sim.now, kept.name, kept.id);
    }
    CHECK_OK(scene_open(&scene), scene.err);
    scene_finish(&scene);
    sim_finish(&sim);
}

static const struct test_case cases[] = {
    TEST_CASE(wal_survives_an_errno_at_every_call),
    TEST_CASE(wal_goes_on_after_short_writes),
    TEST_CASE(wal_finds_every_bit_that_changes_in_acknowledged_records),
    TEST_CASE(wal_refuses_to_start_on_damage_and_names_the_place),
    TEST_CASE(wal_refuses_to_start_without_a_segment_or_an_identity),
};

TEST_MAIN(cases)
