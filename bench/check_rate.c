/* check_rate [MIB [ROUNDS]] - how fast records are checked: one thread, a body of seven columns in
 * memory (id, two texts, a time, a real, a boolean, an integer; about 110 bytes a row), fed in
 * pieces as the server does. Prints rates of processor time, the best and the median round, for
 * each kind of body. Built by `cmake --build build/release --target check_rate`. */
#include "lake_check.h"
#include "mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PIECE_SIZE = 1 << 20,
    LINES_SIZE_MAX = 64 << 20,
    ROUNDS_MAX = 100
};

static void append_row(struct buf *into, enum lake_input input, uint64_t row)
{
    static const char *const cities[] = {"Berlin", "Amsterdam", "San Francisco", "Oslo"};
    static const char *const states[] = {"shipped", "pending", "cancelled"};
    unsigned mixed = (unsigned)(row * UINT64_C(2654435761) >> 7);
    const char *city = cities[mixed % 4];
    const char *state = states[mixed % 3];
    const char *paid = mixed % 2 == 0 ? "true" : "false";
    char at[64];
    char price[32];
    (void)snprintf(at, sizeof(at), "2026-03-%02uT%02u:%02u:%02uZ", mixed % 28 + 1, mixed % 24,
                   mixed / 24 % 60, mixed / 1440 % 60);
    (void)snprintf(price, sizeof(price), "%u.%02u", mixed % 10000, mixed % 100);
    if (input == LAKE_CSV) {
        buf_append_format(into, "%" PRIu64 ",%s,%s,%s,%s,%s,%u\n", row, city, state, at, price,
                          paid, mixed % 977);
    } else {
        buf_append_format(into,
                          "{\"id\":%" PRIu64 ",\"city\":\"%s\",\"state\":\"%s\",\"at\":\"%s\","
                          "\"price\":%s,\"paid\":%s,\"count\":%u}%c",
                          row, city, state, at, price, paid, mixed % 977,
                          input == LAKE_NDJSON ? '\n' : ',');
    }
}

/* `size` bytes or a little more, as one body. */
static uint64_t make_body(struct buf *body, enum lake_input input, size_t size)
{
    uint64_t row = 0;
    buf_init(body, size + (1 << 16));
    if (input == LAKE_CSV) {
        buf_append_text(body, "id,city,state,at,price,paid,count\n");
    } else if (input == LAKE_JSON) {
        buf_append_byte(body, '[');
    }
    while (body->len < size) {
        append_row(body, input, row++);
    }
    if (input == LAKE_JSON) {
        body->ptr[body->len - 1] = ']';
    }
    return row;
}

static void fail(const struct err *err)
{
    fprintf(stderr, "check_rate: %s\n", err->message);
    exit(1);
}

/* The whole body once, as a request would bring it; returns its lines' size. */
static uint64_t check_body(enum lake_input input, struct str body,
                           const struct lake_schema **schema)
{
    struct lake_check_options options = {
        .input = input, .record_size_max = 16 << 20, .lines_size_max = LINES_SIZE_MAX};
    struct lake_check *check = lake_check_create(&options);
    uint64_t lines_size = 0;
    while (body.len > 0) {
        struct lake_checked checked;
        struct err err;
        struct str piece = str_first(body, PIECE_SIZE);
        if (!lake_check_pass(check, *schema, piece, piece.len == body.len, &checked, NULL, &err)) {
            fail(&err);
        }
        if (checked.wants_count > 0) {
            const struct lake_schema *wider;
            if (!lake_schema_widen(*schema, checked.wants, checked.wants_count, &wider, &err)) {
                fail(&err);
            }
            lake_schema_drop(*schema);
            *schema = wider;
            continue;
        }
        lines_size += checked.lines.len;
        body = str_from(body, checked.used);
    }
    lake_check_destroy(check);
    return lines_size;
}

/* Of this thread: a machine that others use too disturbs it least. */
static int64_t processor_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int compare_i64(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

static void measure(const char *name, enum lake_input input, size_t size, size_t rounds)
{
    const struct lake_schema *schema = lake_schema_create_empty();
    struct buf body;
    int64_t times_us[ROUNDS_MAX];
    uint64_t rows = make_body(&body, input, size);
    uint64_t lines_size = check_body(input, buf_str(&body), &schema);
    for (size_t i = 0; i < rounds; i++) {
        int64_t start_us = processor_us();
        (void)check_body(input, buf_str(&body), &schema);
        times_us[i] = processor_us() - start_us;
    }
    qsort(times_us, rounds, sizeof(times_us[0]), compare_i64);
    double best = (double)times_us[0];
    double median = (double)times_us[rounds / 2];
    printf("%-7s best %7.0f MB/s %6.2f M rows/s   median %7.0f MB/s   (%.0f bytes a row, lines "
           "%.0f)\n",
           name, (double)body.len / best, (double)rows / best, (double)body.len / median,
           (double)body.len / (double)rows, (double)lines_size / (double)rows);
    lake_schema_drop(schema);
    buf_finish(&body);
}

int main(int argc, char **argv)
{
    size_t size = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20;
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 9;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    measure("ndjson", LAKE_NDJSON, size, rounds);
    measure("json", LAKE_JSON, size, rounds);
    measure("csv", LAKE_CSV, size, rounds);
    return 0;
}
