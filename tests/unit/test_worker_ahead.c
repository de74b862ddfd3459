#include "test.h"

#include "worker_ahead.h"

enum {
    OBJECT = 1000
};

struct answer {
    bool wanted;
    uint64_t first;
    uint64_t count;
};

static struct answer note(struct ahead *ahead, uint64_t first, uint64_t count)
{
    const struct ahead_read read = {.first = first, .end = first + count, .fresh = count};
    struct answer answer = {0};
    answer.wanted = ahead_note_read(ahead, OBJECT, &read, &answer.first, &answer.count);
    return answer;
}

TEST(a_reader_that_moves_forward_is_run_ahead_of)
{
    struct ahead ahead = {0};
    CHECK(!note(&ahead, 0, 8).wanted);
    uint64_t asked = 0;
    uint64_t most = 0;
    for (uint64_t at = 8; at < OBJECT; at += 8) {
        struct answer answer = note(&ahead, at, 8);
        if (answer.wanted) {
            CHECK(answer.first == (asked == 0 ? at + 8 : asked)); /* nothing twice, no hole */
            asked = answer.first + answer.count;
            CHECK(asked <= OBJECT);
            most = asked - (at + 8) > most ? asked - (at + 8) : most;
        }
    }
    CHECK_U64(asked, OBJECT);
    CHECK_U64(most, AHEAD_WINDOW_MAX);
}

TEST(the_first_steps_are_small)
{
    struct ahead ahead = {0};
    CHECK(!note(&ahead, 0, 2).wanted);
    struct answer second = note(&ahead, 2, 2);
    CHECK(second.wanted && second.first == 4 && second.count == 8);
}

TEST(one_that_jumps_is_not)
{
    struct ahead ahead = {0};
    uint64_t at = 7;
    for (unsigned i = 0; i < 300; i++) {
        at = (at * 389 + 157) % (OBJECT - 1);
        CHECK(!note(&ahead, at, 1).wanted);
    }
}

TEST(one_that_goes_backwards_is_not)
{
    struct ahead ahead = {0};
    for (uint64_t at = OBJECT; at >= 8; at -= 8) {
        CHECK(!note(&ahead, at - 8, 8).wanted);
    }
}

TEST(two_that_take_turns_both_are)
{
    struct ahead ahead = {0};
    unsigned wanted[2] = {0};
    for (uint64_t at = 0; at < 300; at += 10) {
        wanted[0] += note(&ahead, at, 10).wanted;
        wanted[1] += note(&ahead, 600 + at, 10).wanted;
    }
    CHECK(wanted[0] > 0 && wanted[1] > 0);
}

TEST(the_footer_does_not_hide_the_scan)
{
    struct ahead ahead = {0};
    CHECK(!note(&ahead, OBJECT - 1, 1).wanted);
    CHECK(!note(&ahead, 0, 4).wanted);
    CHECK(note(&ahead, 4, 4).wanted);
}

static const struct test_case cases[] = {
    TEST_CASE(a_reader_that_moves_forward_is_run_ahead_of),
    TEST_CASE(the_first_steps_are_small),
    TEST_CASE(one_that_jumps_is_not),
    TEST_CASE(one_that_goes_backwards_is_not),
    TEST_CASE(two_that_take_turns_both_are),
    TEST_CASE(the_footer_does_not_hide_the_scan),
};

TEST_MAIN(cases)
