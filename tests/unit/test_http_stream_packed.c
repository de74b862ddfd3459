/* test_http_stream_packed.c - bodies that are unpacked while they arrive. */
#include "http_upload_fixture.h"

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

static void pack_gzip(struct buf *into, struct str text, int window)
{
    z_stream stream = {0};
    size_t size = text.len + text.len / 100 + 1000;
    unsigned char *block = mem_alloc(size);
    if (deflateInit2(&stream, 1, Z_DEFLATED, window, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        abort();
    }
    stream.next_in = (Bytef *)(uintptr_t)text.ptr;
    stream.avail_in = (uInt)text.len;
    stream.next_out = block;
    stream.avail_out = (uInt)size;
    if (deflate(&stream, Z_FINISH) != Z_STREAM_END) {
        abort();
    }
    buf_append_bytes(into, block, size - stream.avail_out);
    (void)deflateEnd(&stream);
    mem_free(block);
}

static void pack(struct buf *into, const char *encoding, struct str text)
{
    size_t size = ZSTD_compressBound(text.len) + BrotliEncoderMaxCompressedSize(text.len);
    char *block = mem_alloc(size);
    if (strcmp(encoding, "gzip") == 0 || strcmp(encoding, "x-gzip") == 0) {
        pack_gzip(into, text, 31);
    } else if (strcmp(encoding, "deflate") == 0) {
        pack_gzip(into, text, text.len % 2 == 0 ? 15 : -15);
    } else if (strcmp(encoding, "zstd") == 0) {
        buf_append_bytes(into, block, ZSTD_compress(block, size, text.ptr, text.len, 1));
    } else {
        (void)BrotliEncoderCompress(1, 18, BROTLI_MODE_GENERIC, text.len, (const uint8_t *)text.ptr,
                                    &size, (uint8_t *)block);
        buf_append_bytes(into, block, size);
    }
    mem_free(block);
}

static const char *const encodings[] = {"gzip", "x-gzip", "deflate", "br", "zstd"};

static void append_text(struct buf *text, size_t size)
{
    for (size_t at = 0; at < size; at += PIECE_MAX) {
        size_t piece = size - at < PIECE_MAX ? size - at : PIECE_MAX;
        buf_append_bytes(text, pattern + at % PATTERN_PERIOD, piece);
    }
}

static void check_encoding(struct fixture *fixture, const char *encoding, size_t size,
                           bool *test_failed)
{
    struct buf text;
    struct buf packed;
    buf_init(&text, 16 * MIB);
    buf_init(&packed, 16 * MIB);
    append_text(&text, size);
    pack(&packed, encoding, buf_str(&text));
    char expected[64];
    (void)snprintf(expected, sizeof(expected), "%zu exact", size);
    int fd = client_connect(fixture, 0);
    CHECK(send_encoded(fd, "/upload", encoding, buf_str(&packed)));
    CHECK_REPLY(fd, 200, expected);
    char path[64];
    (void)snprintf(path, sizeof(path), "/upload?most=%zu", size);
    CHECK(send_encoded(fd, path, encoding, buf_str(&packed)));
    CHECK_REPLY(fd, 200, expected);
    CHECK(send_encoded(fd, "/upload", encoding, str_first(buf_str(&packed), packed.len - 1)));
    CHECK_REPLY(fd, 400, "the compressed request body is broken");
    buf_append_text(&packed, "#");
    CHECK(send_encoded(fd, "/upload", encoding, buf_str(&packed)));
    struct reply reply;
    CHECK(client_read(fd, &reply, false));
    CHECK_U64(reply.status, 400);
    reply_finish(&reply);
    (void)close(fd);
    buf_finish(&text);
    buf_finish(&packed);
}

TEST(packed_bodies)
{
    static const size_t sizes[] = {1, 2, 65535, 65536, 65537, 131072, 3 * MIB + 1, 4 * MIB};
    struct fixture *fixture = start(defaults);
    for (size_t i = 0; i < COUNT_OF(encodings); i++) {
        for (size_t j = 0; j < COUNT_OF(sizes) && !*test_failed; j++) {
            check_encoding(fixture, encodings[i], sizes[j], test_failed);
        }
        if (*test_failed) {
            TEST_FAIL("in %s", encodings[i]);
        }
    }
    int fd = client_connect(fixture, 0);
    CHECK(send_encoded(fd, "/upload", "zstd", STR("")));
    CHECK_REPLY(fd, 200, "0 exact");
    CHECK(send_encoded(fd, "/upload", "Identity", STR("aho")));
    CHECK_REPLY(fd, 200, "3 exact");
    CHECK(send_encoded(fd, "/upload", "lzma", STR("aho")));
    CHECK_REPLY(fd, 415,
                "the content encoding 'lzma' is not supported; gzip, deflate, br and zstd are");
    (void)close(fd);
    fixture_stop(fixture);
}

TEST(packed_body_in_several_members_and_bytes)
{
    static const char *const kinds[] = {"gzip", "zstd"};
    struct fixture *fixture = start(defaults);
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        struct buf text;
        struct buf packed;
        buf_init(&text, MIB);
        buf_init(&packed, MIB);
        append_text(&text, 3000);
        pack(&packed, kinds[i], str_first(buf_str(&text), 1000));
        pack(&packed, kinds[i], STR(""));
        pack(&packed, kinds[i], str_from(buf_str(&text), 1000));
        int fd = client_connect(fixture, 0);
        char fields[64];
        (void)snprintf(fields, sizeof(fields), "Content-Encoding: %s\r\n", kinds[i]);
        CHECK(send_sized_header(fd, "/upload", packed.len, fields));
        for (size_t at = 0; at < packed.len; at++) {
            CHECK(client_send(fd, str_make(packed.ptr + at, 1)));
        }
        CHECK_REPLY(fd, 200, "3000 exact");
        (void)close(fd);
        buf_finish(&text);
        buf_finish(&packed);
    }
    fixture_stop(fixture);
}

TEST(bomb_is_refused_before_it_unfolds)
{
    struct fixture *fixture = start(defaults);
    struct buf zeros;
    buf_init(&zeros, 32 * MIB + 1);
    CHECK(buf_reserve(&zeros, 32 * MIB));
    memset(zeros.ptr, 'a', 32 * MIB);
    zeros.len = 32 * MIB;
    for (size_t i = 0; i < COUNT_OF(encodings); i++) {
        struct buf packed;
        buf_init(&packed, 2 * MIB);
        pack(&packed, encodings[i], buf_str(&zeros));
        CHECK(packed.len < MIB);
        int fd = client_connect(fixture, 0);
        atomic_store(&seen.read, 0);
        CHECK(send_encoded(fd, "/upload?most=1000000", encodings[i], buf_str(&packed)));
        CHECK_REPLY(fd, 413, "the decoded request body is larger than 1000000 bytes");
        CHECK(atomic_load(&seen.read) <= 1000000);
        (void)close(fd);
        buf_finish(&packed);
    }
    buf_finish(&zeros);
    fixture_stop(fixture);
}

static const struct test_case cases[] = {
    TEST_CASE(packed_bodies),
    TEST_CASE(packed_body_in_several_members_and_bytes),
    TEST_CASE(bomb_is_refused_before_it_unfolds),
};

TEST_MAIN(cases)
