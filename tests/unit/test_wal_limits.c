/* What the log refuses, and that it takes records again afterwards. */
#include "test.h"

#include "wal_internal.h"
#include "wal_scene.h"

#include "clock.h"

/* A scene whose disk has as much room as the test says. */
static void set_free(struct sim *sim, int64_t bytes)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->free_bytes = bytes;
    (void)pthread_mutex_unlock(&sim->mutex);
}

static void set_full(struct sim *sim, int code)
{
    (void)pthread_mutex_lock(&sim->mutex);
    sim->full_code = code;
    (void)pthread_mutex_unlock(&sim->mutex);
}

/* Appends until the log says that it is full. How many went in. */
static size_t fill(struct scene *scene, size_t size)
{
    size_t before = scene->acked;
    for (unsigned i = 0; i < 60; i++) {
        size_t acked = scene->acked;
        (void)scene_submit_sized(scene, size, false);
        scene_settle(scene);
        if (scene->acked == acked) {
            break;
        }
    }
    return scene->acked - before;
}

static bool goes_in(struct scene *scene, size_t size, bool urgent)
{
    size_t before = scene->acked;
    (void)scene_submit_sized(scene, size, urgent);
    scene_settle(scene);
    return scene->acked == before + 1;
}

static void begin(struct scene *scene, struct sim *sim)
{
    sim_init(sim, NULL);
    scene_init(scene, sim, 1);
}

/* That nothing was lost on the way. */
static const char *end(struct scene *scene)
{
    struct oracle oracle = {.scale = 1};
    struct sim again;
    struct sim_image image;
    wal_close(scene->wal);
    scene->wal = NULL;
    for (size_t i = 0; i < scene->sim->ops_count; i++) {
        oracle_note(&oracle, scene, &scene->sim->ops[i]);
    }
    sim_image_copy(&scene->sim->now, &image);
    sim_init(&again, &image);
    const char *wrong = judge(&again, &oracle, true);
    sim_finish(&again);
    scene_finish(scene);
    sim_finish(scene->sim);
    return wrong == NULL ? "" : wrong;
}

TEST(wal_at_its_limit_refuses_until_it_was_trimmed)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    scene.options.bytes_max = 3 * SCENE_SEGMENT;
    CHECK(scene_open(&scene));
    size_t count = fill(&scene, 2000);
    CHECK(count > 12 && count < 20);
    CHECK_U64(scene.err.kind, ERR_BUSY);
    CHECK(!goes_in(&scene, 2000, false));
    CHECK(metric_level(&wal_counts(scene.wal)->bytes) <= 3 * SCENE_SEGMENT);
    CHECK(goes_in(&scene, 500, true)); /* into what is kept for such */
    for (unsigned i = 0; i < 10; i++) {
        CHECK(goes_in(&scene, 2000, true)); /* and beyond the limit */
    }
    CHECK(!goes_in(&scene, 100, false));
    CHECK(wal_is_full(scene.wal));
    CHECK(scene_trim(&scene, scene.last_sequence));
    CHECK_WITHIN(5000, !wal_is_full(scene.wal));
    CHECK(goes_in(&scene, 2000, false));
    CHECK_U64(scene.broken, 0);
    CHECK_STR(str_of(end(&scene)), "");
}

TEST(wal_leaves_the_disk_what_others_need)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    scene.options.disk_free_min = 1 << 20;
    set_free(&sim, (1 << 20) + SCENE_SEGMENT - 1);
    CHECK(scene_open(&scene));
    CHECK(fill(&scene, 300) < 40);
    CHECK(wal_is_full(scene.wal));
    set_free(&sim, (1 << 20) + SCENE_SEGMENT);
    CHECK_WITHIN(5000, !wal_is_full(scene.wal)); /* it looks again by itself */
    CHECK(goes_in(&scene, 2000, false));
    CHECK_U64(scene.broken, 0);
    CHECK_STR(str_of(end(&scene)), "");
}

TEST(wal_on_a_full_disk_refuses_and_goes_on_when_there_is_room)
{
    static const int codes[] = {ENOSPC, EDQUOT};
    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        struct sim sim;
        struct scene scene;
        begin(&scene, &sim);
        CHECK(scene_open(&scene));
        set_full(&sim, codes[i]);
        CHECK(fill(&scene, 300) < 40);
        CHECK(wal_is_full(scene.wal));
        CHECK_U64(scene.err.kind, ERR_BUSY);
        CHECK(goes_in(&scene, 300, true));
        wal_rotate(scene.wal); /* cannot, and does no harm */
        set_full(&sim, 0);
        CHECK_WITHIN(5000, !wal_is_full(scene.wal));
        CHECK(goes_in(&scene, 2000, false));
        CHECK(fill(&scene, 2000) == 60);
        CHECK_U64(scene.broken, 0);
        CHECK_STR(str_of(end(&scene)), "");
    }
}

/* A schema that finds no room, and rows that need it and would. */
TEST(wal_takes_nothing_behind_an_urgent_record_that_it_refused)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    CHECK(scene_open(&scene));
    set_full(&sim, ENOSPC);
    CHECK(goes_in(&scene, 100, false));
    CHECK(!goes_in(&scene, 1 << 20, true));
    CHECK(!goes_in(&scene, 100, false));
    CHECK(!goes_in(&scene, 100, true));
    set_full(&sim, 0);
    CHECK_WITHIN(5000, goes_in(&scene, 100, false));
    CHECK_U64(scene.broken, 0);
    CHECK_STR(str_of(end(&scene)), "");
}

TEST(wal_refuses_what_waits_for_too_long_a_queue)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    scene.options.queue_bytes_max = 5000;
    CHECK(scene_open(&scene));
    sim_hold(&sim);
    CHECK(scene_submit_sized(&scene, 9000, false)); /* alone it may be larger */
    sim_wait_held(&sim);
    CHECK(!scene_submit_sized(&scene, 100, false));
    CHECK_U64(scene.err.kind, ERR_BUSY);
    sim_release(&sim);
    scene_settle(&scene);
    CHECK(goes_in(&scene, 100, false));
    CHECK_STR(str_of(end(&scene)), "");
}

/* What happened on the disk since: pieces as large as a heartbeat. */
static bool has_heartbeat(struct sim *sim, size_t since)
{
    bool found = false;
    (void)pthread_mutex_lock(&sim->mutex);
    for (size_t i = since; i < sim->ops_count; i++) {
        const struct sim_op *op = &sim->ops[i];
        found = found || (op->kind == SIM_WRITE && op->size == WAL_RECORD_HEADER_SIZE &&
                          op->bytes[2] == WAL_TYPE_HEARTBEAT);
    }
    (void)pthread_mutex_unlock(&sim->mutex);
    return found;
}

TEST(wal_vouches_for_the_last_batch_when_it_is_idle)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    CHECK(scene_open(&scene));
    scene_append(&scene, 2);
    size_t since = sim.ops_count;
    int64_t begun_ms = clock_now_ms();
    CHECK(!has_heartbeat(&sim, since));
    CHECK_WITHIN(5000, has_heartbeat(&sim, since));
    CHECK(clock_now_ms() - begun_ms < 1000);
    CHECK_STR(str_of(end(&scene)), "");
}

TEST(wal_counts_what_was_torn)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    CHECK(scene_open(&scene));
    scene_append(&scene, 3);
    struct sim_image image;
    sim_image_copy(&sim.now, &image);
    const struct sim_name *name = sim_name(&image, "00000000000000000001.wal");
    CHECK(name != NULL);
    struct sim_file *file = sim_file(&image, name->id);
    size_t last = file->size;
    while (last > 0 && file->bytes[last - 1] == 0) {
        last--;
    }
    file->bytes[last - 1] ^= 1; /* in the last record's payload; nothing vouches for it yet */
    struct sim torn;
    struct oracle oracle = {.scale = 1};
    sim_init(&torn, &image);
    scene.options.io = &torn.io;
    wal_close(scene.wal);
    scene.wal = wal_open(&scene.options, &scene.err);
    CHECK(scene.wal != NULL);
    CHECK_U64(metric_value(&wal_counts(scene.wal)->torn_tails), 1);
    wal_close(scene.wal);
    scene.wal = NULL;
    oracle.states[0] = oracle.states[1] = oracle.states[2] = SCENE_SUBMITTED;
    const char *wrong = judge(&torn, &oracle, true);
    CHECK_STR(str_of(wrong == NULL ? "" : wrong), "");
    sim_finish(&torn);
    scene_finish(&scene);
    sim_finish(&sim);
}

/* What a segment held in an earlier life is behind its end, and is nothing that was cut off. */
TEST(wal_counts_nothing_torn_where_an_older_segment_was)
{
    struct sim sim;
    struct scene scene;
    begin(&scene, &sim);
    CHECK(scene_open(&scene));
    for (unsigned round = 0; round < 4; round++) {
        scene_append(&scene, 5);
        wal_rotate(scene.wal);
        CHECK(goes_in(&scene, 1500, false));
        CHECK(goes_in(&scene, 300 + 8 * round, false));
        CHECK(scene_trim(&scene, scene.last_sequence));
    }
    CHECK(sim_has_reused(&sim));
    CHECK(scene_open(&scene)); /* closed in order, and begun again */
    CHECK_U64(metric_value(&wal_counts(scene.wal)->torn_tails), 0);
    CHECK_STR(str_of(end(&scene)), "");
}

static const struct test_case cases[] = {
    TEST_CASE(wal_at_its_limit_refuses_until_it_was_trimmed),
    TEST_CASE(wal_leaves_the_disk_what_others_need),
    TEST_CASE(wal_on_a_full_disk_refuses_and_goes_on_when_there_is_room),
    TEST_CASE(wal_takes_nothing_behind_an_urgent_record_that_it_refused),
    TEST_CASE(wal_refuses_what_waits_for_too_long_a_queue),
    TEST_CASE(wal_vouches_for_the_last_batch_when_it_is_idle),
    TEST_CASE(wal_counts_what_was_torn),
    TEST_CASE(wal_counts_nothing_torn_where_an_older_segment_was),
};

TEST_MAIN(cases)
