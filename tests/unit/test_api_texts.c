#include "test.h"

#include "api_texts.h"
#include "buf.h"
#include "worker_text.h"

enum {
    TEXTS_COUNT = 2000, /* many for each slot */
    LONG_SIZE = 20000
};

static bool agrees(struct texts *texts, struct str text)
{
    bool good = true;
    for (int turn = 0; turn < 2; turn++) { /* looked at, remembered */
        good = good && texts_ask(texts, TEXT_IS_REPEATABLE, text) == worker_is_repeatable(text) &&
               texts_ask(texts, TEXT_ONLY_READS, text) == worker_only_reads(text) &&
               texts_ask(texts, TEXT_MAY_READ_TABLES, text) == worker_may_read_tables(text);
    }
    return good;
}

struct form {
    const char *before; /* a number */
    const char *behind;
};

static void append_form(struct buf *text, size_t number)
{
    static const struct form forms[] = {
        {"SELECT ", ""},
        {"SELECT random() + ", ""},
        {"INSERT INTO t VALUES (", ")"},
        {"SELECT * FROM t", ""},
        {"UPDATE t SET a = ", ""},
        {"SELECT now(), ", " FROM t"},
        {"SELECT '", " without end"},
        {"FROM t", "; DELETE FROM t"},
        {"SELECT nextval('s", "')"},
    };
    const struct form *form = &forms[number % COUNT_OF(forms)];
    buf_append_format(text, "%s%zu%s", form->before, number, form->behind);
}

TEST(what_is_remembered_is_what_was_found)
{
    struct texts *texts = texts_create();
    struct buf text;
    buf_init(&text, 1000);
    for (int i = 0; i < TEXTS_COUNT; i++) {
        buf_reset(&text);
        append_form(&text, (size_t)i);
        CHECK(agrees(texts, buf_str(&text)));
    }
    CHECK(agrees(texts, STR("")));
    buf_finish(&text);
    texts_destroy(texts);
}

TEST(a_text_that_only_begins_alike_is_another_one)
{
    struct texts *texts = texts_create();
    struct buf text;
    buf_init(&text, 4 * LONG_SIZE);
    for (int i = 0; i < LONG_SIZE; i += 977) {
        buf_reset(&text);
        buf_append_text(&text, "SELECT 1 /*");
        for (int k = 0; k < i; k++) {
            buf_append_byte(&text, 'x');
        }
        buf_append_text(&text, "*/ + 1");
        CHECK(agrees(texts, buf_str(&text)));
        buf_append_text(&text, " FROM t, (DELETE FROM t)");
        CHECK(agrees(texts, buf_str(&text)));
    }
    buf_finish(&text);
    texts_destroy(texts);
}

static const struct test_case cases[] = {
    TEST_CASE(what_is_remembered_is_what_was_found),
    TEST_CASE(a_text_that_only_begins_alike_is_another_one),
};

TEST_MAIN(cases)
