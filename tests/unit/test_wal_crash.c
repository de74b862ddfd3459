/* Power cuts: a scenario runs once on a disk that notes every operation; then each image that a
 * power cut at any moment of it may leave is started from, by the real code, and judged. */
#include "test.h"

#include "wal_scene.h"

enum {
    SUBSET_MAX = 6,
    PENDING_MAX = 256,
    SEEN_SIZE = 1 << 18
};

/* What becomes of writes that were not synced: of those in the subset, and of the others. */
enum tear {
    TEAR_WHOLE,
    TEAR_512_FIRST_HALF,
    TEAR_512_ODD,
    TEAR_512_EVEN,
    TEAR_4096_ODD,
    TEAR_4096_EVEN,
    TEAR_OTHERS_GARBAGE,
    TEAR_OTHERS_STALE, /* what an older segment had there */
    TEAR_RANDOM,       /* and more of that: any sectors */
    TEAR_COUNT = TEAR_RANDOM + 8
};

struct campaign {
    const struct scene *scene;
    struct oracle oracle;
    struct sim_image base; /* what is sure */
    const struct sim_op *pending[PENDING_MAX];
    size_t pending_count;
    uint64_t *seen;
    size_t images;
    size_t nested_images;
    size_t nested_every; /* 0: recovery itself is not cut */
    size_t violations;
    bool quiet;
    bool is_nested;
};

static bool is_new(struct campaign *campaign, uint64_t hash)
{
    hash = hash == 0 ? 1 : hash;
    for (size_t at = hash % SEEN_SIZE;; at = (at + 1) % SEEN_SIZE) {
        if (campaign->seen[at] == hash) {
            return false;
        }
        if (campaign->seen[at] == 0) {
            campaign->seen[at] = hash;
            return true;
        }
    }
}

static bool keeps_unit(unsigned tear, uint64_t unit, uint64_t first, uint64_t last)
{
    if (tear == TEAR_512_FIRST_HALF) {
        return unit < (first + last + 1) / 2;
    }
    if (tear == TEAR_512_ODD || tear == TEAR_4096_ODD) {
        return unit % 2 == 1;
    }
    if (tear == TEAR_512_EVEN || tear == TEAR_4096_EVEN) {
        return unit % 2 == 0;
    }
    if (tear >= TEAR_RANDOM) {
        const uint64_t seed[] = {tear, unit};
        return (sim_hash_bytes(7, seed, sizeof(seed)) >> 40 & 1) != 0;
    }
    return true;
}

/* A write of which only some sectors or pages reached the disk. */
static void apply_torn(struct sim_image *image, const struct sim_op *op, unsigned tear)
{
    uint64_t unit_size = tear == TEAR_4096_ODD || tear == TEAR_4096_EVEN ? 4096 : 512;
    uint64_t first = op->offset / unit_size;
    uint64_t last = (op->offset + op->size - 1) / unit_size;
    for (uint64_t unit = first; unit <= last; unit++) {
        uint64_t begin = unit * unit_size > op->offset ? unit * unit_size : op->offset;
        uint64_t end = (unit + 1) * unit_size;
        end = end < op->offset + op->size ? end : op->offset + op->size;
        if (keeps_unit(tear, unit, first, last)) {
            sim_put(sim_file(image, op->file), begin, op->bytes + (begin - op->offset),
                    (size_t)(end - begin));
        }
    }
}

static void apply_stale(struct campaign *campaign, struct sim_image *image, const struct sim_op *op,
                        unsigned tear)
{
    const struct sim_file *old = NULL;
    char *bytes = mem_alloc(op->size + 1);
    for (size_t i = 0; i < SIM_FILES; i++) {
        const struct sim_file *file = &campaign->base.files[i];
        old = file->id != op->file && file->size >= op->offset + op->size ? file : old;
    }
    for (size_t i = 0; i < op->size; i++) {
        bytes[i] = (char)(i * 167 + op->offset);
    }
    if (tear == TEAR_OTHERS_STALE && old != NULL) {
        memcpy(bytes, old->bytes + op->offset, op->size);
    }
    sim_put(sim_file(image, op->file), op->offset, bytes, op->size);
    mem_free(bytes);
}

static void run_nested(struct campaign *campaign, const struct sim *sim,
                       struct sim_image *start_take);

static void judge_image(struct campaign *campaign, struct sim_image *image_take)
{
    struct sim sim;
    bool nest = campaign->nested_every > 0 && campaign->images % campaign->nested_every == 0;
    struct sim_image start = {0};
    if (nest) {
        sim_image_copy(image_take, &start);
    }
    campaign->images++;
    sim_init(&sim, image_take);
    const char *wrong = judge(&sim, &campaign->oracle, !nest && campaign->images % 4 == 0);
    if (wrong != NULL) {
        campaign->violations++;
        if (!campaign->quiet && campaign->violations <= 5) {
            fprintf(stderr, "image %zu%s: %s\n", campaign->images,
                    campaign->is_nested ? " of a recovery" : "", wrong);
        }
    }
    if (nest && wrong == NULL) {
        run_nested(campaign, &sim, &start);
    }
    sim_image_finish(&start);
    sim_finish(&sim);
}

static void try_image(struct campaign *campaign, uint64_t subset, size_t first, bool earlier,
                      unsigned tear)
{
    struct sim_image image;
    sim_image_copy(&campaign->base, &image);
    for (size_t i = 0; i < campaign->pending_count; i++) {
        const struct sim_op *op = campaign->pending[i];
        bool chosen = i < first ? earlier : (subset >> (i - first) & 1) != 0;
        if (chosen && op->kind == SIM_WRITE) {
            apply_torn(&image, op, tear);
        } else if (chosen) {
            sim_apply(&image, op);
        } else if (op->kind == SIM_WRITE &&
                   (tear == TEAR_OTHERS_GARBAGE || tear == TEAR_OTHERS_STALE)) {
            apply_stale(campaign, &image, op, tear);
        }
    }
    uint64_t hash = sim_image_hash(&image);
    hash = sim_hash_bytes(hash, &campaign->oracle, sizeof(campaign->oracle));
    if (is_new(campaign, hash)) {
        judge_image(campaign, &image);
    }
    sim_image_finish(&image);
}

/* Every image that a power cut at this moment may leave. */
static void try_moment(struct campaign *campaign)
{
    size_t count = campaign->pending_count;
    size_t first = count > SUBSET_MAX ? count - SUBSET_MAX : 0;
    bool has_write = false;
    for (size_t i = 0; i < count; i++) {
        has_write = has_write || campaign->pending[i]->kind == SIM_WRITE;
    }
    for (uint64_t subset = 0; subset < UINT64_C(1) << (count - first); subset++) {
        for (unsigned tear = 0; tear < (has_write ? TEAR_COUNT : 1); tear++) {
            try_image(campaign, subset, first, true, tear);
            if (first > 0) {
                try_image(campaign, subset, first, false, tear);
            }
        }
    }
}

/* One more operation has happened. */
static void advance(struct campaign *campaign, const struct sim_op *op)
{
    oracle_note(&campaign->oracle, campaign->scene, op);
    if (sim_changes(op)) {
        assert(campaign->pending_count < PENDING_MAX);
        campaign->pending[campaign->pending_count++] = op;
        return;
    }
    size_t kept = 0;
    for (size_t i = 0; i < campaign->pending_count; i++) {
        const struct sim_op *waits = campaign->pending[i];
        if (!waits->orphan && sim_makes_sure(op, waits)) {
            sim_apply(&campaign->base, waits);
        } else {
            campaign->pending[kept++] = waits;
        }
    }
    campaign->pending_count = kept;
}

/* Inodes that nobody can reach any more. */
static void forget_files(struct campaign *campaign)
{
    for (size_t i = 0; i < SIM_FILES; i++) {
        struct sim_file *file = &campaign->base.files[i];
        bool used = file->id == 0 || sim_has_name(&campaign->base, file->id);
        for (size_t k = 0; k < campaign->pending_count && !used; k++) {
            used = campaign->pending[k]->file == file->id;
        }
        if (!used) {
            mem_free(file->bytes);
            *file = (struct sim_file){0};
        }
    }
}

static void run_campaign(struct campaign *campaign, const struct sim *sim)
{
    for (size_t i = 0; i < sim->ops_count; i++) {
        advance(campaign, &sim->ops[i]);
        if (sim->ops[i].kind == SIM_SYNC_FOLDER) {
            forget_files(campaign);
        }
        if (sim->ops[i].kind != SIM_EVENT || sim->ops[i].size != EVENT_SUBMIT) {
            try_moment(campaign);
        }
    }
}

/* The power goes once more, at each moment of the start that followed. */
static void run_nested(struct campaign *campaign, const struct sim *sim,
                       struct sim_image *start_take)
{
    struct campaign nested = *campaign;
    nested.base = *start_take;
    nested.pending_count = 0;
    nested.nested_every = 0;
    nested.is_nested = true;
    nested.images = 0;
    *start_take = (struct sim_image){0};
    run_campaign(&nested, sim);
    campaign->violations = nested.violations;
    campaign->nested_images += nested.images;
    sim_image_finish(&nested.base);
}

static void campaign_begin(struct campaign *campaign, const struct scene *scene,
                           size_t nested_every)
{
    *campaign = (struct campaign){
        .scene = scene, .oracle = {.scale = scene->scale}, .nested_every = nested_every};
    campaign->seen = mem_alloc_array(SEEN_SIZE, sizeof(*campaign->seen));
}

static void campaign_end(struct campaign *campaign)
{
    sim_image_finish(&campaign->base);
    mem_free(campaign->seen);
}

/* Files that were segments before: what they held is under the records of the new ones, and behind
 * them. */
static void play_again(struct scene *scene)
{
    bool good = scene_open(scene);
    for (unsigned round = 0; good && round < 4; round++) {
        scene_append_together(scene, 3);
        scene_append(scene, 2);
        wal_rotate(scene->wal);
        scene_append(scene, 1);
        good = scene_trim(scene, scene->last_sequence) && (round != 2 || scene_open(scene));
    }
}

/* The number of images that were tried, or 0 when one of them broke a promise. */
static size_t cut_scene(size_t scale, size_t nested_every, void (*play)(struct scene *scene))
{
    struct sim sim;
    struct scene scene;
    struct campaign campaign;
    sim_init(&sim, NULL);
    scene_init(&scene, &sim, scale);
    play(&scene);
    scene_finish(&scene);
    campaign_begin(&campaign, &scene, nested_every);
    run_campaign(&campaign, &sim);
    printf("     %zu records, %zu operations, %zu images, %zu images of recoveries\n", scene.acked,
           sim.ops_count, campaign.images, campaign.nested_images);
    bool good = campaign.violations == 0 && scene.acked == scene.submitted &&
                (play != play_again || sim_has_reused(&sim));
    size_t images = campaign.images + campaign.nested_images;
    campaign_end(&campaign);
    sim_finish(&sim);
    return good ? images : 0;
}

TEST(wal_keeps_its_promises_after_every_power_cut)
{
    size_t small = cut_scene(1, SCENE_IS_SLOW ? 200 : 9, scene_play);
    CHECK(small > 0);
    if (!SCENE_IS_SLOW) {
        size_t large = cut_scene(5, 60, scene_play);
        CHECK(large > 0);
        CHECK(small + large >= 5000);
    }
}

TEST(wal_keeps_its_promises_in_segments_that_were_others)
{
    CHECK(cut_scene(1, SCENE_IS_SLOW ? 200 : 40, play_again) > 0);
}

/* The same on a disk that says it has synced and has not: the test has to notice. */
TEST(wal_power_cuts_are_noticed_when_syncs_do_nothing)
{
    struct sim sim;
    struct scene scene;
    struct campaign campaign;
    sim_init(&sim, NULL);
    sim.lies = true;
    scene_init(&scene, &sim, 1);
    CHECK(scene_open(&scene));
    scene_append(&scene, 3);
    scene_append_together(&scene, 3);
    scene_finish(&scene);
    campaign_begin(&campaign, &scene, 0);
    campaign.quiet = true;
    run_campaign(&campaign, &sim);
    printf("     %zu images, %zu of them broke a promise\n", campaign.images, campaign.violations);
    size_t violations = campaign.violations;
    campaign_end(&campaign);
    sim_finish(&sim);
    CHECK(violations > 0);
}

static const struct test_case cases[] = {
    TEST_CASE(wal_keeps_its_promises_after_every_power_cut),
    TEST_CASE(wal_keeps_its_promises_in_segments_that_were_others),
    TEST_CASE(wal_power_cuts_are_noticed_when_syncs_do_nothing),
};

TEST_MAIN(cases)
