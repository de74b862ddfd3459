#include "test.h"

#include "ops_metrics.h"

static void collect_number(void *context, struct ops_samples *samples)
{
    ops_put_u64(samples, OPS_NO_LABELS, *(const uint64_t *)context);
}

static void collect_labels(void *context, struct ops_samples *samples)
{
    struct str value = str_of(context);
    ops_put_u64(samples, OPS_LABELS({"first", STR("a")}, {"second", value}), 1);
}

static void collect_time(void *context, struct ops_samples *samples)
{
    ops_put_seconds(samples, OPS_NO_LABELS, *(const int64_t *)context);
}

static void collect_histogram(void *context, struct ops_samples *samples)
{
    ops_put_histogram(samples, OPS_LABELS({"lane", STR("query")}), context);
}

/* The text of one family. */
static struct str render(struct buf *into, const struct ops_family *family, void *context)
{
    struct ops_metrics *metrics = ops_metrics_create();
    buf_init(into, METRICS_TEXT_SIZE_MAX);
    ops_metrics_add(metrics, family, 1, context);
    ops_metrics_render(metrics, into);
    ops_metrics_destroy(metrics);
    return buf_str(into);
}

TEST(a_family_is_headed_by_help_and_type)
{
    static const struct ops_family families[] = {
        {"one_total", OPS_COUNTER, "The first.", collect_number},
        {"two", OPS_GAUGE, "The second.", collect_number},
    };
    uint64_t number = UINT64_MAX;
    struct ops_metrics *metrics = ops_metrics_create();
    CLEANUP(buf_finish) struct buf text;
    buf_init(&text, METRICS_TEXT_SIZE_MAX);
    ops_metrics_add(metrics, families, 2, &number);
    ops_metrics_render(metrics, &text);
    ops_metrics_destroy(metrics);
    CHECK_STR(buf_str(&text), "# HELP one_total The first.\n"
                              "# TYPE one_total counter\n"
                              "one_total 18446744073709551615\n"
                              "# HELP two The second.\n"
                              "# TYPE two gauge\n"
                              "two 18446744073709551615\n");
}

TEST(label_values_are_escaped)
{
    static const struct ops_family family = {"it", OPS_GAUGE, "Help.", collect_labels};
    char value[] = "q\" b\\ n\n} x=\"\xc3\xa4";
    CLEANUP(buf_finish) struct buf text;
    CHECK_STR(render(&text, &family, value), "# HELP it Help.\n# TYPE it gauge\n"
                                             "it{first=\"a\",second=\"q\\\" b\\\\ n\\n} "
                                             "x=\\\"\xc3\xa4\"} 1\n");
}

TEST(bytes_that_are_no_text_are_no_label)
{
    static const struct ops_family family = {"it", OPS_GAUGE, "Help.", collect_labels};
    char value[] = "a\xff\xfe";
    CLEANUP(buf_finish) struct buf text;
    CHECK(str_ends(render(&text, &family, value), STR("it{first=\"a\",second=\"\"} 1\n")));
}

TEST(help_is_escaped_but_for_quotes)
{
    static const struct ops_family family = {"it", OPS_GAUGE, "a \"b\" \\ c\nd", collect_number};
    uint64_t number = 0;
    CLEANUP(buf_finish) struct buf text;
    CHECK_STR(render(&text, &family, &number),
              "# HELP it a \"b\" \\\\ c\\nd\n# TYPE it gauge\nit 0\n");
}

TEST(seconds_are_exact)
{
    static const struct {
        int64_t value_us;
        const char *text;
    } table[] = {
        {0, "0"},
        {-1, "0"},
        {1, "0.000001"},
        {500, "0.0005"},
        {1000000, "1"},
        {1500000, "1.5"},
        {61000001, "61.000001"},
        {INT64_C(1795268546676000), "1795268546.676"},
        {INT64_MAX, "9223372036854.775807"},
    };
    static const struct ops_family family = {"it_seconds", OPS_GAUGE, "Help.", collect_time};
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        int64_t value_us = table[i].value_us;
        char expected[128];
        (void)snprintf(expected, sizeof(expected),
                       "# HELP it_seconds Help.\n# TYPE it_seconds gauge\nit_seconds %s\n",
                       table[i].text);
        CLEANUP(buf_finish) struct buf text;
        CHECK_STR(render(&text, &family, &value_us), expected);
    }
}

static bool has_line(struct str text, const char *line)
{
    struct str at;
    while (str_next_part(&text, '\n', &at)) {
        if (str_equal(at, str_of(line))) {
            return true;
        }
    }
    return false;
}

TEST(a_histogram_is_cumulative_and_ends_with_infinity)
{
    static const struct ops_family family = {"wait_seconds", OPS_HISTOGRAM, "H.",
                                             collect_histogram};
    struct metric_histogram histogram = {0};
    metric_observe_us(&histogram, 400);
    metric_observe_us(&histogram, 20000);
    metric_observe_us(&histogram, 400000000);
    CLEANUP(buf_finish) struct buf buf;
    struct str text = render(&buf, &family, &histogram);
    CHECK(has_line(text, "# TYPE wait_seconds histogram"));
    CHECK(has_line(text, "wait_seconds_bucket{lane=\"query\",le=\"0.0005\"} 1"));
    CHECK(has_line(text, "wait_seconds_bucket{lane=\"query\",le=\"0.01\"} 1"));
    CHECK(has_line(text, "wait_seconds_bucket{lane=\"query\",le=\"0.025\"} 2"));
    CHECK(has_line(text, "wait_seconds_bucket{lane=\"query\",le=\"300\"} 2"));
    CHECK(has_line(text, "wait_seconds_bucket{lane=\"query\",le=\"+Inf\"} 3"));
    CHECK(has_line(text, "wait_seconds_sum{lane=\"query\"} 400.0204"));
    CHECK(has_line(text, "wait_seconds_count{lane=\"query\"} 3"));
}

TEST(a_text_that_does_not_fit_is_known_to_be_cut)
{
    static const struct ops_family family = {"one_total", OPS_COUNTER, "Help.", collect_number};
    uint64_t number = 1;
    struct ops_metrics *metrics = ops_metrics_create();
    CLEANUP(buf_finish) struct buf text;
    buf_init(&text, 20);
    ops_metrics_add(metrics, &family, 1, &number);
    ops_metrics_render(metrics, &text);
    ops_metrics_destroy(metrics);
    CHECK(buf_failed(&text));
}

TEST(the_process_has_its_usual_names)
{
    struct ops_metrics *metrics = ops_metrics_create();
    struct ops_process process;
    CLEANUP(buf_finish) struct buf text;
    buf_init(&text, METRICS_TEXT_SIZE_MAX);
    ops_process_add(metrics, &process);
    ops_metrics_render(metrics, &text);
    ops_metrics_destroy(metrics);
    static const char *const names[] = {"process_resident_memory_bytes", "process_open_fds",
                                        "process_max_fds", "process_cpu_seconds_total",
                                        "process_start_time_seconds"};
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char line[80];
        (void)snprintf(line, sizeof(line), "\n%s ", names[i]);
        size_t at = str_find(buf_str(&text), str_of(line));
        CHECK(at < text.len);
        CHECK(text.ptr[at + strlen(line)] >= '0' && text.ptr[at + strlen(line)] <= '9');
        CHECK(i == 3 || text.ptr[at + strlen(line)] != '0');
    }
}

static const struct test_case cases[] = {
    TEST_CASE(a_family_is_headed_by_help_and_type),
    TEST_CASE(label_values_are_escaped),
    TEST_CASE(bytes_that_are_no_text_are_no_label),
    TEST_CASE(help_is_escaped_but_for_quotes),
    TEST_CASE(seconds_are_exact),
    TEST_CASE(a_histogram_is_cumulative_and_ends_with_infinity),
    TEST_CASE(a_text_that_does_not_fit_is_known_to_be_cut),
    TEST_CASE(the_process_has_its_usual_names),
};

TEST_MAIN(cases)
