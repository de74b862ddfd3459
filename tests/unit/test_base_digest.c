#include "test.h"

#include "digest.h"
#include "fd.h"

#include <sys/mman.h>
#include <unistd.h>

static struct str hex_of(struct sha256 digest, char text[static DIGEST_SHA256_HEX_SIZE])
{
    digest_hex(digest.bytes, sizeof(digest.bytes), text);
    return str_of(text);
}

/* FIPS 180-2 appendix B. */
TEST(sha256_of_known_texts)
{
    char text[DIGEST_SHA256_HEX_SIZE];
    CHECK_STR(hex_of(digest_sha256(STR("")), text),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_STR(hex_of(digest_sha256(STR("abc")), text),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_STR(hex_of(digest_sha256(STR("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
                     text),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* RFC 4231, cases 1, 2, 3 and 6. */
TEST(hmac_of_known_texts)
{
    char text[DIGEST_SHA256_HEX_SIZE];
    char key[131];
    char data[50];
    memset(key, 0x0b, 20);
    CHECK_STR(hex_of(digest_hmac_sha256(str_make(key, 20), STR("Hi There")), text),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    CHECK_STR(hex_of(digest_hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?")), text),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    CHECK_STR(hex_of(digest_hmac_sha256(str_make(key, 20), str_make(data, 50)), text),
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    CHECK_STR(
        hex_of(digest_hmac_sha256(str_make(key, 131),
                                  STR("Test Using Larger Than Block-Size Key - Hash Key First")),
               text),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    CHECK_STR(hex_of(digest_hmac_sha256(STR(""), STR("")), text),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(a_file_is_read_from_its_start)
{
    char text[DIGEST_SHA256_HEX_SIZE];
    struct sha256 digest;
    struct err err;
    CLEANUP(fd_close) int fd = memfd_create("digest", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(fd_write_all(fd, STR("abcdef"), &err), err);
    CHECK_OK(digest_sha256_fd(fd, 3, &digest, &err), err);
    CHECK_STR(hex_of(digest, text),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_I64(lseek(fd, 0, SEEK_CUR), 6);
    CHECK_OK(digest_sha256_fd(fd, 0, &digest, &err), err);
    CHECK_STR(hex_of(digest, text),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* A million letters `a` (FIPS 180-2), which is more than one piece of reading. */
TEST(a_large_file)
{
    char text[DIGEST_SHA256_HEX_SIZE];
    char letters[1000];
    struct sha256 digest;
    struct err err;
    memset(letters, 'a', sizeof(letters));
    CLEANUP(fd_close) int fd = memfd_create("digest", MFD_CLOEXEC);
    CHECK(fd >= 0);
    for (int i = 0; i < 1000; i++) {
        CHECK_OK(fd_write_all(fd, str_make(letters, sizeof(letters)), &err), err);
    }
    CHECK_OK(digest_sha256_fd(fd, 1000000, &digest, &err), err);
    CHECK_STR(hex_of(digest, text),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(a_file_that_is_too_short_is_an_error)
{
    struct sha256 digest;
    struct err err = {0};
    CLEANUP(fd_close) int fd = memfd_create("digest", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_OK(fd_write_all(fd, STR("abc"), &err), err);
    CHECK(!digest_sha256_fd(fd, 4, &digest, &err));
    CHECK(err.kind == ERR_INTERNAL);
    CHECK(!digest_sha256_fd(-1, 4, &digest, &err));
}

TEST(hexadecimal_is_lower_case)
{
    char text[9];
    digest_hex("\x00\x7f\x80\xff", 4, text);
    CHECK_STR(str_of(text), "007f80ff");
    digest_hex("", 0, text);
    CHECK_STR(str_of(text), "");
}

TEST(random_bytes_differ)
{
    unsigned char a[32] = {0};
    unsigned char b[32] = {0};
    digest_random(a, sizeof(a));
    digest_random(b, sizeof(b));
    CHECK(memcmp(a, b, sizeof(a)) != 0);
    digest_random(a, 0);
}

static const struct test_case cases[] = {
    TEST_CASE(sha256_of_known_texts),
    TEST_CASE(hmac_of_known_texts),
    TEST_CASE(a_file_is_read_from_its_start),
    TEST_CASE(a_large_file),
    TEST_CASE(a_file_that_is_too_short_is_an_error),
    TEST_CASE(hexadecimal_is_lower_case),
    TEST_CASE(random_bytes_differ),
};

TEST_MAIN(cases)
