#include "test.h"

#include "buf.h"
#include "store_internal.h"

static bool key_good(const char *key)
{
    struct err err;
    return store_check_key(str_of(key), &err);
}

static bool endpoint_good(const char *endpoint)
{
    struct err err;
    return store_check_endpoint(str_of(endpoint), &err);
}

static bool bucket_good(const char *bucket)
{
    struct err err;
    return store_check_bucket(str_of(bucket), &err);
}

static bool matches(const char *pattern, const char *key)
{
    return store_match_key(str_of(pattern), str_of(key));
}

TEST(keys_with_odd_letters_are_good)
{
    CHECK(key_good("a"));
    CHECK(key_good("data/year=2026/a b+c%d#e?f*g&\xc3\xa9.parquet"));
    CHECK(key_good("..a/b.."));
    CHECK(key_good("..."));
}

TEST(keys_that_nobody_should_ask_for_are_refused)
{
    CHECK(!key_good(""));
    CHECK(!key_good("/a"));
    CHECK(!key_good("a/"));
    CHECK(!key_good("a//b"));
    CHECK(!key_good("a/../b"));
    CHECK(!key_good("./a"));
    CHECK(!key_good("a/."));
    CHECK(!key_good("a\nb"));
    CHECK(!key_good("a\x7f"));
}

TEST(keys_end_at_1024_bytes)
{
    char key[STORE_KEY_SIZE_MAX + 2];
    struct err err;
    memset(key, 'k', sizeof(key));
    CHECK(store_check_key(str_make(key, STORE_KEY_SIZE_MAX), &err));
    CHECK(!store_check_key(str_make(key, STORE_KEY_SIZE_MAX + 1), &err));
}

TEST(prefixes_may_be_empty_or_end_with_a_slash)
{
    struct err err;
    CHECK(store_check_prefix(STR(""), &err));
    CHECK(store_check_prefix(STR("a/"), &err));
    CHECK(store_check_prefix(STR("a/b"), &err));
    CHECK(!store_check_prefix(STR("a//"), &err));
    CHECK(!store_check_prefix(STR("../a"), &err));
}

TEST(endpoints)
{
    CHECK(endpoint_good("http://minio:9000"));
    CHECK(endpoint_good("http://minio:9000/"));
    CHECK(endpoint_good("HTTPS://s3.eu-west-1.amazonaws.com"));
    CHECK(endpoint_good("http://[::1]:9000"));
    CHECK(!endpoint_good(""));
    CHECK(!endpoint_good("http"));
    CHECK(!endpoint_good("minio:9000"));
    CHECK(!endpoint_good("ftp://x"));
    CHECK(!endpoint_good("http://"));
    CHECK(!endpoint_good("http:///"));
    CHECK(!endpoint_good("http://x/path"));
    CHECK(!endpoint_good("http://x//"));
    CHECK(!endpoint_good("http://x?y"));
    CHECK(!endpoint_good("http://x#y"));
    CHECK(!endpoint_good("http://u:p@x"));
    CHECK(!endpoint_good("http://x:"));
    CHECK(!endpoint_good("http://x:0"));
    CHECK(!endpoint_good("http://x:99999"));
    CHECK(!endpoint_good("http://x y"));
    CHECK(!endpoint_good("http://x%2fy"));
    CHECK(!endpoint_good("http://x\r\nHost: y"));
    CHECK(!endpoint_good("http://[::1"));
    CHECK(!endpoint_good("http://[::1]x"));
    CHECK(!endpoint_good("http://[1.2.3.4]"));
    CHECK(!endpoint_good("http://[fe80::1%eth0]"));
    CHECK(!endpoint_good("http://::1"));
    CHECK(endpoint_good("http://127.0.0.1"));
    CHECK(!endpoint_good("http://127.1"));
    CHECK(!endpoint_good("http://2130706433"));
    CHECK(!endpoint_good("http://0x7f000001"));
    CHECK(!endpoint_good("http://0x7f.1"));
    CHECK(!endpoint_good("http://0177.0.0.1"));
    CHECK(!endpoint_good("http://127.0.0.01"));
    CHECK(!endpoint_good("http://localhost."));
    CHECK(!endpoint_good("http://a..b"));
    CHECK(!endpoint_good("http://m\xc3\xbcller.example"));
    CHECK(!endpoint_good("http://\xe2\x93\x94.example"));
}

TEST(buckets)
{
    CHECK(bucket_good("abc"));
    CHECK(bucket_good("Old_Bucket.name-1"));
    CHECK(!bucket_good("ab"));
    CHECK(!bucket_good("-abc"));
    CHECK(!bucket_good("abc."));
    CHECK(!bucket_good("a/b"));
    CHECK(!bucket_good("a..b"));
    CHECK(!bucket_good("a b"));
}

static bool fits_host(const char *bucket, const char *endpoint)
{
    struct err err;
    struct store_endpoint parts;
    return store_split_endpoint(str_of(endpoint), &parts, &err) &&
           store_fits_host(str_of(bucket), &parts);
}

TEST(buckets_that_can_be_in_a_host_name)
{
    CHECK(fits_host("my-bucket1", "https://s3.example.com"));
    CHECK(fits_host("my.bucket", "http://s3.example.com:9000"));
    CHECK(!fits_host("my.bucket", "https://s3.example.com")); /* no certificate covers it */
    CHECK(!fits_host("MyBucket", "http://s3.example.com"));
    CHECK(!fits_host("my_bucket", "http://s3.example.com"));
    CHECK(!fits_host("my-bucket", "http://127.0.0.1:9000"));
    CHECK(!fits_host("my-bucket", "http://[::1]:9000"));
    char longer[65];
    memset(longer, 'b', sizeof(longer) - 1);
    longer[64] = '\0';
    CHECK(!fits_host(longer, "http://s3.example.com"));
    CHECK(fits_host(longer + 1, "http://s3.example.com"));
}

TEST(endpoints_of_aws)
{
    CHECK(store_is_aws(STR("https://s3.eu-central-1.amazonaws.com")));
    CHECK(store_is_aws(STR("https://s3.cn-north-1.amazonaws.com.cn/")));
    CHECK(!store_is_aws(STR("https://s3.amazonaws.com.example.org")));
    CHECK(!store_is_aws(STR("http://minio:9000")));
    CHECK(!store_is_aws(STR("nonsense")));
}

TEST(encoding_comes_back)
{
    struct buf encoded;
    struct buf decoded;
    struct str text = STR("a b/c+d%\xc3\xa9~-._");
    buf_init(&encoded, 100);
    buf_init(&decoded, 100);
    store_append_encoded(&encoded, text, false);
    bool whole = store_append_decoded(&decoded, buf_str(&encoded));
    bool as_expected = str_equal(buf_str(&encoded), STR("a%20b%2Fc%2Bd%25%C3%A9~-._"));
    bool same = str_equal(buf_str(&decoded), text);
    buf_finish(&encoded);
    buf_finish(&decoded);
    CHECK(whole);
    CHECK(as_expected);
    CHECK(same);
}

TEST(decoding_refuses_half_an_escape)
{
    struct buf buf;
    buf_init(&buf, 100);
    bool cut = store_append_decoded(&buf, STR("a%2"));
    bool wrong = store_append_decoded(&buf, STR("a%zz"));
    buf_reset(&buf);
    bool plus = store_append_decoded(&buf, STR("a+%2b")) && str_equal(buf_str(&buf), STR("a +"));
    buf_finish(&buf);
    CHECK(!cut);
    CHECK(!wrong);
    CHECK(plus);
}

TEST(globs_within_a_segment)
{
    CHECK(matches("a/*.parquet", "a/x.parquet"));
    CHECK(!matches("a/*.parquet", "a/b/x.parquet"));
    CHECK(matches("a/[xy].parquet", "a/y.parquet"));
    CHECK(matches("a/[0-9]*", "a/7z"));
    CHECK(!matches("a/[!0-9]*", "a/7z"));
    CHECK(matches("*a*b*", "xxaxxbxx"));
    CHECK(!matches("*a*b", "xxbxxa"));
    CHECK(matches("a?b", "a?b"));
    CHECK(!matches("a?b", "axb"));
    CHECK(matches("a[b", "a[b"));
    CHECK(!matches("a/*", "a"));
    CHECK(!matches("a", "a/b"));
}

TEST(globs_over_segments)
{
    CHECK(matches("a/**/x", "a/x"));
    CHECK(matches("a/**/x", "a/b/c/x"));
    CHECK(!matches("a/**/x", "a/b/c/y"));
    CHECK(matches("**", "a/b"));
    CHECK(matches("a/**", "a/b/c"));
    CHECK(!matches("a/**", "a"));
    CHECK(matches("**/b/**/d", "a/b/c/d"));
    CHECK(matches("**/b/*/d", "b/b/x/d"));
    CHECK(!matches("a**b/c", "a/b/c"));
}

TEST(globs_of_many_stars_end_soon)
{
    CHECK(!matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
                   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    CHECK(!matches("**/a/**/a/**/a/**/a/**/a/**/b", "a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a"));
}

TEST(glob_prefixes)
{
    CHECK(store_has_glob(STR("a/*")));
    CHECK(!store_has_glob(STR("a/b?")));
    CHECK(!store_has_glob(STR("a[b")));
    CHECK_STR(store_glob_prefix(STR("a/b*c")), "a/b");
    CHECK_STR(store_glob_prefix(STR("a/[bc]")), "a/");
    CHECK_STR(store_glob_prefix(STR("a/b")), "a/b");
}

static const struct test_case cases[] = {
    TEST_CASE(keys_with_odd_letters_are_good),
    TEST_CASE(keys_that_nobody_should_ask_for_are_refused),
    TEST_CASE(keys_end_at_1024_bytes),
    TEST_CASE(prefixes_may_be_empty_or_end_with_a_slash),
    TEST_CASE(endpoints),
    TEST_CASE(buckets),
    TEST_CASE(buckets_that_can_be_in_a_host_name),
    TEST_CASE(endpoints_of_aws),
    TEST_CASE(encoding_comes_back),
    TEST_CASE(decoding_refuses_half_an_escape),
    TEST_CASE(globs_within_a_segment),
    TEST_CASE(globs_over_segments),
    TEST_CASE(globs_of_many_stars_end_soon),
    TEST_CASE(glob_prefixes),
};
TEST_MAIN(cases)
