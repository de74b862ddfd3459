#include "test.h"

#include "nearest.h"

static struct str nearest_of(const char *wanted)
{
    static const char *const words[] = {"serve", "config", "check", "version"};
    struct nearest nearest = nearest_to(str_of(wanted));
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        nearest_try(&nearest, words[i]);
    }
    return nearest.found == NULL ? STR("-") : str_of(nearest.found);
}

TEST(one_slip_is_understood)
{
    CHECK_STR(nearest_of("serv"), "serve");    /* missing */
    CHECK_STR(nearest_of("serrve"), "serve");  /* too many */
    CHECK_STR(nearest_of("sarve"), "serve");   /* wrong */
    CHECK_STR(nearest_of("srve"), "serve");    /* missing inside */
    CHECK_STR(nearest_of("chekc"), "check");   /* swapped: one step, not two */
    CHECK_STR(nearest_of("CONFIG"), "config"); /* case */
}

TEST(what_is_far_is_not_guessed)
{
    CHECK_STR(nearest_of("start"), "-");
    CHECK_STR(nearest_of("x"), "-");
    CHECK_STR(nearest_of(""), "-");
    CHECK_STR(nearest_of("configuration"), "-");
}

TEST(a_third_of_the_letters_may_change)
{
    struct nearest nearest = nearest_to(STR("abcdef"));
    nearest_try(&nearest, "xyzdef");
    CHECK(nearest.found == NULL);
    nearest_try(&nearest, "xycdef");
    CHECK_U64(nearest.distance, 2);
    nearest_try(&nearest, "abxyef"); /* no nearer: the first one stays */
    CHECK_STR(str_of(nearest.found), "xycdef");
    nearest_try(&nearest, "abcdef");
    CHECK_U64(nearest.distance, 0);
}

TEST(long_words_are_left_alone)
{
    char longer[80];
    memset(longer, 'a', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    struct nearest nearest = nearest_to(str_of(longer));
    nearest_try(&nearest, "aaaa");
    CHECK(nearest.found == NULL);
    nearest = nearest_to(STR("aaaa"));
    nearest_try(&nearest, longer);
    CHECK(nearest.found == NULL);
    longer[63] = '\0'; /* as long as a word may be */
    nearest = nearest_to(str_of(longer));
    nearest_try(&nearest, longer);
    CHECK(nearest.found == longer);
}

static const struct test_case cases[] = {
    TEST_CASE(one_slip_is_understood),
    TEST_CASE(what_is_far_is_not_guessed),
    TEST_CASE(a_third_of_the_letters_may_change),
    TEST_CASE(long_words_are_left_alone),
};
TEST_MAIN(cases)
