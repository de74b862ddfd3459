#include "test.h"

#include "engine_memory.h"

#define MIB UINT64_C(1048576)

struct memory_row {
    uint64_t total_mib, per_job_mib;
    unsigned slots;
};

static const struct memory_row memory_rows[] = {
    {24576, 6144, 24}, {6144, 6144, 24}, {2048, 1536, 24}, {512, 128, 24},
    {512, 6144, 3},    {1, 1, 1},        {100, 7, 24},     {65536, 100, 24},
};

/* Fills all slots: every grant is between the floor and the maximum, and the sum fits. */
static bool fills_within_total(const struct memory_row *row)
{
    struct engine_memory memory;
    uint64_t grants[24];
    uint64_t sum = 0;
    bool good = true;
    engine_memory_init(&memory, row->total_mib * MIB, row->per_job_mib * MIB, row->slots);
    for (unsigned i = 0; i < row->slots; i++) {
        grants[i] = engine_memory_reserve(&memory);
        sum += grants[i];
        good = good && grants[i] >= memory.floor_bytes && grants[i] <= row->per_job_mib * MIB;
        good = good && sum <= row->total_mib * MIB && memory.reserved_bytes == sum;
    }
    good = good && engine_memory_reserve(&memory) == 0 && memory.reserved_bytes == sum;
    for (unsigned i = 0; i < row->slots; i++) {
        engine_memory_release(&memory, grants[i]);
    }
    good = good && memory.reserved_bytes == 0 && memory.slots_used == 0;
    engine_memory_finish(&memory);
    return good;
}

TEST(all_slots_are_filled_within_the_total)
{
    for (size_t i = 0; i < COUNT_OF(memory_rows); i++) {
        if (!fills_within_total(&memory_rows[i])) {
            TEST_FAIL("row %zu", i);
        }
    }
}

TEST(the_floor_is_a_share_of_at_most_256_mib)
{
    struct engine_memory memory;
    engine_memory_init(&memory, 24 * 1024 * MIB, 6144 * MIB, 24);
    CHECK_U64(memory.floor_bytes, 256 * MIB);
    engine_memory_finish(&memory);
    engine_memory_init(&memory, 2400 * MIB, 6144 * MIB, 24);
    CHECK_U64(memory.floor_bytes, 100 * MIB);
    engine_memory_finish(&memory);
    engine_memory_init(&memory, 24 * 1024 * MIB, 10 * MIB, 24);
    CHECK_U64(memory.floor_bytes, 10 * MIB);
    engine_memory_finish(&memory);
}

TEST(who_comes_first_gets_up_to_the_maximum)
{
    struct engine_memory memory;
    engine_memory_init(&memory, 24 * 1024 * MIB, 6144 * MIB, 24);
    uint64_t first = engine_memory_reserve(&memory);
    CHECK_U64(first, 6144 * MIB);
    uint64_t last = first;
    uint64_t grants[24] = {first};
    for (unsigned i = 1; i < 24; i++) {
        grants[i] = engine_memory_reserve(&memory);
        CHECK(grants[i] <= last);
        last = grants[i];
    }
    for (unsigned i = 0; i < 24; i++) {
        engine_memory_release(&memory, grants[i]);
    }
    CHECK_U64(engine_memory_reserve(&memory), first);
    engine_memory_release(&memory, first);
    engine_memory_finish(&memory);
}

/* Any order of taking and giving back keeps the promises. The numbers are a fixed sequence. */
TEST(any_order_keeps_the_promises)
{
    struct engine_memory memory;
    uint64_t grants[24] = {0};
    uint64_t sum = 0;
    uint32_t seed = 12345;
    engine_memory_init(&memory, 5000 * MIB, 2000 * MIB, 24);
    for (int step = 0; step < 100000; step++) {
        seed = seed * 1664525 + 1013904223;
        unsigned slot = (seed >> 8) % 24;
        if (grants[slot] != 0) {
            engine_memory_release(&memory, grants[slot]);
            sum -= grants[slot];
            grants[slot] = 0;
        } else {
            grants[slot] = engine_memory_reserve(&memory);
            sum += grants[slot];
            CHECK(grants[slot] >= memory.floor_bytes);
        }
        CHECK(sum <= 5000 * MIB);
        CHECK_U64(memory.reserved_bytes, sum);
    }
    for (unsigned i = 0; i < 24; i++) {
        if (grants[i] != 0) {
            engine_memory_release(&memory, grants[i]);
        }
    }
    engine_memory_finish(&memory);
}

static void *take_and_give(void *argument)
{
    struct engine_memory *memory = argument;
    for (int i = 0; i < 5000; i++) {
        uint64_t granted = engine_memory_reserve(memory);
        if (granted != 0) {
            engine_memory_release(memory, granted);
        }
    }
    return NULL;
}

TEST(threads_share_it)
{
    struct engine_memory memory;
    pthread_t threads[4];
    engine_memory_init(&memory, 1000 * MIB, 900 * MIB, 3);
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        threads[i] = thread_start("memory", take_and_give, &memory);
    }
    for (size_t i = 0; i < COUNT_OF(threads); i++) {
        (void)pthread_join(threads[i], NULL);
    }
    CHECK_U64(memory.slots_used, 0);
    CHECK_U64(memory.reserved_bytes, 0);
    engine_memory_finish(&memory);
}

static const struct test_case cases[] = {
    TEST_CASE(all_slots_are_filled_within_the_total),
    TEST_CASE(the_floor_is_a_share_of_at_most_256_mib),
    TEST_CASE(who_comes_first_gets_up_to_the_maximum),
    TEST_CASE(any_order_keeps_the_promises),
    TEST_CASE(threads_share_it),
};

TEST_MAIN(cases)
