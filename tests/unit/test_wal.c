#include "test.h"

#include "wal.h"

#include "clock.h"
#include "mem.h"

#include <stdlib.h>
#include <unistd.h>

/* ---- a log in a fresh folder, gone at the end ---- */

enum {
    REPLAYED_MAX = 4096,
    TYPE = WAL_TYPE_FIRST + 1
};

struct fixture {
    char path[64];
    struct wal_options options;
    struct wal *wal;
    struct err err;
    struct wal_place replayed[REPLAYED_MAX];
    unsigned types[REPLAYED_MAX];
    char *texts[REPLAYED_MAX];
    size_t count; /* of replayed records, prologues left out */
    size_t prologues;
};

static bool note_replayed(void *context, const struct wal_place *place, unsigned type,
                          struct str payload, struct err *err)
{
    struct fixture *f = context;
    (void)err;
    if (type == WAL_TYPE_PROLOGUE) {
        f->prologues++;
        return true;
    }
    f->replayed[f->count] = *place;
    f->types[f->count] = type;
    f->texts[f->count++] = mem_copy_bytes(payload.ptr, payload.len);
    return f->count < REPLAYED_MAX;
}

static void write_prologue(void *context, struct buf *into)
{
    (void)context;
    buf_append_text(into, "prologue");
}

static void forget(struct fixture *f)
{
    for (size_t i = 0; i < f->count; i++) {
        mem_free(f->texts[i]);
    }
    f->count = 0;
    f->prologues = 0;
}

static bool reopen(struct fixture *f)
{
    wal_close(f->wal);
    forget(f);
    f->wal = wal_open(&f->options, &f->err);
    return f->wal != NULL;
}

static bool fixture_init(struct fixture *f)
{
    *f = (struct fixture){.path = "/tmp/eider-wal-XXXXXX"};
    f->options = (struct wal_options){
        .folder = f->path,
        .segment_bytes = 1 << 20,
        .queue_bytes_max = 64 << 20,
        .context = f,
        .prologue = write_prologue,
        .replay = note_replayed,
    };
    return mkdtemp(f->path) != NULL && reopen(f);
}

static void fixture_finish(struct fixture *f)
{
    char command[128];
    wal_close(f->wal);
    forget(f);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->path);
    (void)!system(command);
}

static bool append(struct fixture *f, struct str text, struct wal_place *ret_place)
{
    struct buf payload;
    buf_init(&payload, WAL_PAYLOAD_SIZE_MAX + 1);
    buf_append(&payload, text);
    const struct wal_record record = {.type = TYPE};
    bool good = wal_append_wait(f->wal, &record, &payload, ret_place, &f->err);
    buf_finish(&payload);
    return good;
}

static bool append_size(struct fixture *f, size_t size, char byte, struct wal_place *ret_place)
{
    char *bytes = mem_alloc(size + 1);
    memset(bytes, byte, size);
    bool good = append(f, str_make(bytes, size), ret_place);
    mem_free(bytes);
    return good;
}

/* ---- tests ---- */

TEST(wal_replays_what_was_appended_in_order)
{
    struct fixture f;
    struct wal_place places[3];
    CHECK(fixture_init(&f));
    CHECK(append(&f, STR("one"), &places[0]));
    CHECK(append(&f, STR(""), &places[1]));
    CHECK(append(&f, STR("three"), &places[2]));
    CHECK_U64(places[1].sequence, places[0].sequence + 1);
    CHECK_U64(places[2].sequence, places[1].sequence + 1);
    for (unsigned round = 0; round < 3; round++) {
        CHECK(reopen(&f));
        CHECK_U64(f.count, 3);
        CHECK_STR(str_of(f.texts[0]), "one");
        CHECK_STR(str_of(f.texts[1]), "");
        CHECK_STR(str_of(f.texts[2]), "three");
        CHECK_U64(f.replayed[2].sequence, places[2].sequence);
        CHECK_U64(f.types[0], TYPE);
    }
    CHECK(append(&f, STR("four"), &places[0]));
    CHECK(places[0].sequence > places[2].sequence);
    CHECK(reopen(&f));
    CHECK_U64(f.count, 4);
    fixture_finish(&f);
}

TEST(wal_reader_finds_what_was_replayed_and_what_was_appended)
{
    struct fixture f;
    struct wal_place places[60];
    struct str payload;
    CHECK(fixture_init(&f));
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        CHECK(append_size(&f, i * 3000, (char)('a' + i % 26), &places[i]));
    }
    for (unsigned round = 0; round < 2; round++) {
        struct wal_reader *reader = wal_reader_open(f.wal);
        for (size_t i = 0; i < COUNT_OF(places); i++) {
            const struct wal_place *place = round == 0 ? &places[i] : &f.replayed[i];
            CHECK(wal_reader_get(reader, place, &payload, &f.err));
            CHECK_U64(payload.len, i * 3000);
            CHECK(i == 0 || payload.ptr[payload.len - 1] == (char)('a' + i % 26));
        }
        wal_reader_close(reader);
        CHECK(reopen(&f));
        CHECK_U64(f.count, COUNT_OF(places));
    }
    fixture_finish(&f);
}

TEST(wal_rotates_and_trims)
{
    struct fixture f;
    struct wal_place place = {0};
    CHECK(fixture_init(&f));
    for (unsigned i = 0; i < 50; i++) {
        CHECK(append_size(&f, 100000, 'x', &place));
    }
    int64_t segments = metric_level(&wal_counts(f.wal)->segments);
    CHECK(segments > 4);
    CHECK_I64(metric_level(&wal_counts(f.wal)->bytes), segments * (1 << 20));
    CHECK(wal_trim(f.wal, place.sequence, &f.err));
    CHECK(metric_level(&wal_counts(f.wal)->segments) <= 2);
    CHECK(reopen(&f));
    CHECK(f.count >= 1 && f.count < 20);
    CHECK_U64(f.replayed[f.count - 1].sequence, place.sequence);
    wal_rotate(f.wal);
    CHECK(append(&f, STR("last"), &place));
    CHECK(wal_trim(f.wal, place.sequence, &f.err));
    CHECK(reopen(&f));
    CHECK_U64(f.count, 1);
    CHECK_STR(str_of(f.texts[0]), "last");
    CHECK_U64(wal_epoch(f.wal), 3);
    fixture_finish(&f);
}

TEST(wal_holds_a_record_larger_than_a_segment)
{
    struct fixture f;
    struct wal_place place;
    struct str payload;
    CHECK(fixture_init(&f));
    CHECK(append_size(&f, WAL_PAYLOAD_SIZE_MAX, 'x', &place));
    CHECK(!append_size(&f, WAL_PAYLOAD_SIZE_MAX + 1, 'x', &place));
    CHECK_U64(f.err.kind, ERR_TOO_LARGE);
    struct wal_reader *reader = wal_reader_open(f.wal);
    CHECK(wal_reader_get(reader, &place, &payload, &f.err));
    CHECK_U64(payload.len, WAL_PAYLOAD_SIZE_MAX);
    wal_reader_close(reader);
    CHECK(reopen(&f));
    CHECK_U64(f.count, 1);
    CHECK_U64(f.replayed[0].size, WAL_PAYLOAD_SIZE_MAX);
    fixture_finish(&f);
}

static const struct test_case cases[] = {
    TEST_CASE(wal_replays_what_was_appended_in_order),
    TEST_CASE(wal_reader_finds_what_was_replayed_and_what_was_appended),
    TEST_CASE(wal_rotates_and_trims),
    TEST_CASE(wal_holds_a_record_larger_than_a_segment),
};

TEST_MAIN(cases)
