/* The signatures were computed once with botocore, for the same keys, date and headers. */
#include "test.h"

#include "buf.h"
#include "store_internal.h"
#include "store_sigv4.h"

enum {
    PAIRS_MAX = 10
};

struct text_pair {
    const char *name;
    const char *value;
};

struct vector {
    const char *method;
    const char *key; /* NULL for the bucket */
    const char *path;
    struct text_pair query[PAIRS_MAX];
    struct text_pair headers[PAIRS_MAX];
    const char *payload;
    const char *signature;
};

#define OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define OF_HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define DATE "20261121T110338Z"

static const struct vector vectors[] = {
    {
        .method = "GET",
        .key = "plain.txt",
        .path = "/bkt/plain.txt",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"range", "bytes=0-9"},
                    {"x-amz-checksum-mode", "ENABLED"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "3c1d2aa12376f4574717af565d8cc72be676c3e285e847883bea7b6a273da4eb",
    },
    {
        .method = "GET",
        .key = "a b/c+d=e%f#g?h*i&é.txt",
        .path = "/bkt/a%20b/c%2Bd%3De%25f%23g%3Fh%2Ai%26%C3%A9.txt",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"range", "bytes=0-9"},
                    {"x-amz-checksum-mode", "ENABLED"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "0f0463543c08ae824f6ed34be67bf5373d18107e601a740e224a6505e46c4fc4",
    },
    {
        .method = "GET",
        .key = "it's (x)!,:@$;~[]{}|\\^`\"<>",
        .path = "/bkt/it%27s%20%28x%29%21%2C%3A%40%24%3B~%5B%5D%7B%7D%7C%5C%5E%60%22%3C%3E",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"range", "bytes=0-9"},
                    {"x-amz-checksum-mode", "ENABLED"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "e1995cdfc01a272c752dff8978045b34c759d6216a710de013a8934c2a6bfdd6",
    },
    {
        .method = "GET",
        .key = "data/year=2026/month=01/data_1.parquet",
        .path = "/bkt/data/year%3D2026/month%3D01/data_1.parquet",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"range", "bytes=0-9"},
                    {"x-amz-checksum-mode", "ENABLED"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "1f8a827281e761b09cf050570a1b31ba7ce6dc7a3f3af153aab29574dfb50ddb",
    },
    {
        .method = "GET",
        .key = "日本/ü",
        .path = "/bkt/%E6%97%A5%E6%9C%AC/%C3%BC",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"range", "bytes=0-9"},
                    {"x-amz-checksum-mode", "ENABLED"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "e56bd1f9f9f26194bd2f89e9c31df69dbbbf16c0dc3726cf4856f44476559a02",
    },
    {
        .method = "PUT",
        .key = "a b/c+d=e%f#g?h*i&é.txt",
        .path = "/bkt/a%20b/c%2Bd%3De%25f%23g%3Fh%2Ai%26%C3%A9.txt",
        .query = {{NULL, NULL}},
        .headers = {{"content-type", "text/plain; charset=utf-8"},
                    {"host", "store.example:9000"},
                    {"if-none-match", "*"},
                    {"x-amz-content-sha256", OF_HELLO},
                    {"x-amz-date", DATE},
                    {"x-amz-meta-eider-id", "0123"},
                    {"x-amz-security-token", "FQoGZXIvYXdzE/token+with=chars//"}},
        .payload = OF_HELLO,
        .signature = "7db6ef2abef053f014981fc669a39e1dfdbb682a0feaf178a6b242cf5896b2e3",
    },
    {
        .method = "HEAD",
        .key = "plain.txt",
        .path = "/bkt/plain.txt",
        .query = {{NULL, NULL}},
        .headers = {{"host", "store.example:9000"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE},
                    {"x-amz-security-token", "FQoGZXIvYXdzE/token+with=chars//"}},
        .payload = OF_NOTHING,
        .signature = "db144a8618e1a166f9bf4b1f181facc433a3250c266b6be8bcec03429ea6057f",
    },
    {
        .method = "GET",
        .key = NULL,
        .path = "/bkt",
        .query = {{"prefix", "a b/+é="},
                  {"list-type", "2"},
                  {"delimiter", "/"},
                  {"continuation-token", "1/a+b=c d&e%2Bé~"},
                  {"encoding-type", "url"}},
        .headers = {{"host", "store.example:9000"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "4a4f0b16924e9c846e61f8c4a836d9cc9fd7376f53130756774f9a4fc0aa08a9",
    },
    {
        .method = "PUT",
        .key = "x/y",
        .path = "/bkt/x/y",
        .query = {{"uploadId", "u+/="}, {"partNumber", "10"}},
        .headers = {{"host", "store.example:9000"},
                    {"x-amz-content-sha256", OF_HELLO},
                    {"x-amz-date", DATE}},
        .payload = OF_HELLO,
        .signature = "8da9f7b796de98ea7e0912b2abbdbce03ee13ebba479a84e36fdd1f7a7c774f0",
    },
    {
        .method = "POST",
        .key = "x/y",
        .path = "/bkt/x/y",
        .query = {{"uploads", ""}},
        .headers = {{"host", "store.example:9000"},
                    {"x-amz-content-sha256", OF_NOTHING},
                    {"x-amz-date", DATE}},
        .payload = OF_NOTHING,
        .signature = "765f655ad2692b6f6818fc3362929ad7ecc392a13f470b1bd52e7a2c1e3cc587",
    },
};

static size_t count_pairs(const struct text_pair *from, struct sigv4_pair *into)
{
    size_t count = 0;
    for (; count < PAIRS_MAX && from[count].name != NULL; count++) {
        into[count] = (struct sigv4_pair){.name = str_of(from[count].name),
                                          .value = str_of(from[count].value)};
    }
    return count;
}

static void append_authorization(const struct vector *vector, struct buf *buf)
{
    struct sigv4_pair query_pairs[PAIRS_MAX];
    struct sigv4_pair headers[PAIRS_MAX];
    size_t query_count = count_pairs(vector->query, query_pairs);
    size_t headers_count = count_pairs(vector->headers, headers);
    struct buf query;
    buf_init(&query, 4096);
    sigv4_append_query(&query, query_pairs, query_count);
    sigv4_sort(headers, headers_count);
    const struct sigv4_keys keys = {
        .access_key = STR("AKIDEXAMPLE"),
        .secret_key = STR("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        .region = STR("eu-west-3"),
    };
    const struct sigv4_request request = {
        .method = vector->method,
        .path = str_of(vector->path),
        .query = buf_str(&query),
        .headers = headers,
        .headers_count = headers_count,
        .payload_sha256_hex = vector->payload,
        .amz_date = DATE,
    };
    sigv4_append_authorization(buf, &keys, &request);
    buf_finish(&query);
}

TEST(signatures_are_those_of_botocore)
{
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct buf buf;
        buf_init(&buf, 4096);
        append_authorization(&vectors[i], &buf);
        bool same = str_ends(buf_str(&buf), str_of(vectors[i].signature));
        buf_finish(&buf);
        if (!same) {
            TEST_FAIL("vector %zu has another signature", i);
        }
    }
}

TEST(paths_are_encoded_as_botocore_does)
{
    for (size_t i = 0; i < COUNT_OF(vectors); i++) {
        struct buf buf;
        buf_init(&buf, 4096);
        buf_append_text(&buf, vectors[i].key == NULL ? "/bkt" : "/bkt/");
        store_append_encoded(&buf, str_of(vectors[i].key), true);
        bool same = str_equal(buf_str(&buf), str_of(vectors[i].path));
        buf_finish(&buf);
        if (!same) {
            TEST_FAIL("vector %zu has another path", i);
        }
    }
}

TEST(authorization_names_key_scope_and_headers)
{
    struct buf buf;
    buf_init(&buf, 4096);
    append_authorization(&vectors[0], &buf);
    struct str expected = STR("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261121/eu-west-3/s3/"
                              "aws4_request, SignedHeaders=host;range;");
    bool begins = str_starts(buf_str(&buf), expected);
    buf_finish(&buf);
    CHECK(begins);
}

static const struct test_case cases[] = {
    TEST_CASE(signatures_are_those_of_botocore),
    TEST_CASE(paths_are_encoded_as_botocore_does),
    TEST_CASE(authorization_names_key_scope_and_headers),
};
TEST_MAIN(cases)
