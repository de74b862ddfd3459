/* Signed tokens: those of each kind that pass, and every forgery that is known. */
#include "auth_fixture.h"

#define GOOD "{\"role\":\"write\",\"sub\":\"ada\",\"exp\":1800000060}"
#define RULED "\"iss\":\"https://issuer\",\"aud\":\"eider\""

/* One key of each kind, each with its own name, and what is known to everybody of the RSA key. */
struct scene {
    struct folder folder;
    json_t *rsa;
    json_t *ec;
    json_t *hmac;
    struct auth *auth;
    struct auth_identity identity;
    struct err err;
};

static json_t *bare(const json_t *key)
{
    json_t *copy = json_deep_copy(key);
    json_object_del(copy, "alg");
    return copy;
}

static struct auth *open_auth(const struct folder *folder, bool ruled, struct err *err)
{
    const struct auth_options options = {
        .required = true,
        .tokens_path = folder->tokens,
        .jwt_keys_path = folder->keys,
        .jwt_issuer = ruled ? "https://issuer" : NULL,
        .jwt_audience = ruled ? "eider" : NULL,
    };
    return auth_create(&options, err);
}

/* The RSA key says its algorithm, the others do not. */
static struct scene scene_make(bool ruled)
{
    struct scene scene = {.folder = folder_make()};
    scene.rsa = key_make("{\"alg\":\"RS256\",\"kid\":\"r\"}");
    scene.ec = key_make("{\"alg\":\"ES256\",\"kid\":\"e\"}");
    scene.hmac = key_make("{\"kty\":\"oct\",\"bytes\":32,\"kid\":\"h\"}");
    json_t *ec = key_public(scene.ec);
    json_object_del(ec, "alg");
    write_keys(scene.folder.keys,
               json_pack("[o,o,o]", key_public(scene.rsa), ec, bare(scene.hmac)));
    scene.auth = open_auth(&scene.folder, ruled, &scene.err);
    if (scene.auth == NULL) {
        fprintf(stderr, "%s %s\n", scene.err.message, scene.err.detail);
        abort();
    }
    return scene;
}

static void scene_end(struct scene *scene)
{
    auth_destroy(scene->auth);
    json_decref(scene->rsa);
    json_decref(scene->ec);
    json_decref(scene->hmac);
    folder_remove(&scene->folder);
}

static bool passes(struct scene *scene, const json_t *key, const char *header, const char *claims)
{
    char token[4096];
    sign(key, header, claims, token);
    return check_bearer(scene->auth, token, &scene->identity, &scene->err);
}

static uint64_t refused(const struct scene *scene, enum auth_refusal reason)
{
    return metric_value(&auth_refusals(scene->auth)[reason]);
}

TEST(each_algorithm_passes_with_its_own_key)
{
    struct scene scene = scene_make(false);
    CHECK(passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"r\"}", GOOD));
    CHECK_U64(scene.identity.role, AUTH_WRITE);
    CHECK_STR(str_of(scene.identity.name), "ada");
    CHECK(passes(&scene, scene.ec, "{\"alg\":\"ES256\",\"kid\":\"e\"}", GOOD));
    CHECK(passes(&scene, scene.hmac, "{\"alg\":\"HS256\",\"kid\":\"h\"}", GOOD));
    CHECK(passes(&scene, scene.rsa, "{\"alg\":\"RS256\"}", GOOD)); /* the only one of its kind */
    scene_end(&scene);
}

TEST(an_rsa_public_key_is_no_hmac_secret)
{
    struct scene scene = scene_make(false);
    static const char *const headers[] = {"{\"alg\":\"HS256\",\"kid\":\"r\"}",
                                          "{\"alg\":\"HS256\"}",
                                          "{\"alg\":\"HS256\",\"kid\":\"h\"}"};
    char pem[2048];
    char token[4096];
    public_pem(scene.rsa, pem, sizeof(pem));
    json_t *public = key_public(scene.rsa);
    char *json = json_dumps(public, JSON_COMPACT);
    const char *secrets[] = {pem, json, json_string_value(json_object_get(public, "n"))};
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        for (size_t k = 0; k < COUNT_OF(secrets); k++) {
            sign_hmac(str_of(secrets[k]), headers[i], GOOD, token);
            CHECK(!check_bearer(scene.auth, token, &scene.identity, &scene.err));
        }
    }
    free(json);
    json_decref(public);
    scene_end(&scene);
}

TEST(the_algorithm_is_the_keys)
{
    struct scene scene = scene_make(false);
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS512\",\"kid\":\"r\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"PS256\",\"kid\":\"r\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS512\"}", GOOD));
    CHECK_U64(refused(&scene, AUTH_REFUSED_CLAIMS), 3);
    scene_end(&scene);
}

TEST(no_algorithm_at_all_is_refused)
{
    struct scene scene = scene_make(false);
    static const char *const headers[] = {
        "{\"alg\":\"none\"}",    "{\"alg\":\"none\",\"kid\":\"r\"}",
        "{\"alg\":\"None\"}",    "{\"alg\":\"\",\"kid\":\"r\"}",
        "{\"kid\":\"r\"}",       "{\"alg\":null}",
        "{\"alg\":[\"RS256\"]}", "{}",
    };
    for (size_t i = 0; i < COUNT_OF(headers); i++) {
        char token[4096];
        sign_hmac(STR("x"), headers[i], GOOD, token);
        CHECK(!check_bearer(scene.auth, token, &scene.identity, &scene.err));
        *(strrchr(token, '.') + 1) = '\0'; /* and without a signature */
        CHECK(!check_bearer(scene.auth, token, &scene.identity, &scene.err));
    }
    scene_end(&scene);
}

TEST(the_key_is_the_one_that_is_named)
{
    struct scene scene = scene_make(false);
    json_t *other = key_make("{\"alg\":\"RS256\",\"kid\":\"r\"}");
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"x\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"e\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":7}", GOOD));
    CHECK(!passes(&scene, other, "{\"alg\":\"RS256\",\"kid\":\"r\"}", GOOD));
    json_decref(other);
    scene_end(&scene);
}

TEST(without_a_name_two_keys_of_a_kind_are_none)
{
    struct scene scene = scene_make(false);
    json_t *other = key_make("{\"alg\":\"RS256\",\"kid\":\"s\"}");
    write_keys(scene.folder.keys, json_pack("[o,o]", key_public(scene.rsa), key_public(other)));
    CHECK_OK(auth_reload(scene.auth, &scene.err), scene.err);
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\"}", GOOD));
    CHECK(passes(&scene, other, "{\"alg\":\"RS256\",\"kid\":\"s\"}", GOOD));
    json_decref(other);
    scene_end(&scene);
}

TEST(what_is_critical_is_not_understood)
{
    struct scene scene = scene_make(false);
    CHECK(!passes(&scene, scene.rsa,
                  "{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[\"exp\"],\"exp\":1}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[]}", GOOD));
    scene_end(&scene);
}

TEST(a_token_lives_from_its_beginning_to_its_end)
{
    static const struct {
        const char *claims;
        bool good;
    } rows[] = {
        {"\"exp\":1800000001", true},
        {"\"exp\":1800000000.5", true},
        {"\"exp\":9e300", true},
        {"\"exp\":1800000000", false},
        {"\"exp\":1799999999", false},
        {"\"exp\":-1", false},
        {"\"exp\":\"1800000060\"", false},
        {"\"exp\":null", false},
        {"\"x\":1", false},
        {"\"exp\":1800000060,\"nbf\":1800000060", true},
        {"\"exp\":1800000060,\"nbf\":1800000061", false},
        {"\"exp\":1800000060,\"nbf\":\"1\"", false},
        {"\"exp\":1800000060,\"iat\":1800000060", true},
        {"\"exp\":1800000060,\"iat\":1800000061", false},
        {"\"exp\":1800000060,\"exp\":1800000061", false}, /* which one */
    };
    struct scene scene = scene_make(false);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char claims[256];
        (void)snprintf(claims, sizeof(claims), "{\"role\":\"read\",%s}", rows[i].claims);
        if (passes(&scene, scene.hmac, "{\"alg\":\"HS256\",\"kid\":\"h\"}", claims) !=
            rows[i].good) {
            TEST_FAIL("%s", claims);
        }
    }
    CHECK_U64(refused(&scene, AUTH_REFUSED_EXPIRED), 3);
    scene_end(&scene);
}

TEST(issuer_audience_and_role_have_to_be_there)
{
    static const struct {
        const char *claims;
        bool good;
    } rows[] = {
        {RULED ",\"role\":\"admin\"", true},
        {"\"iss\":\"https://issuer\",\"aud\":[\"x\",\"eider\"],\"role\":\"read\"", true},
        {"\"iss\":\"https://issuer/\",\"aud\":\"eider\",\"role\":\"read\"", false},
        {"\"iss\":[\"https://issuer\"],\"aud\":\"eider\",\"role\":\"read\"", false},
        {"\"aud\":\"eider\",\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"aud\":\"eide\",\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"aud\":[\"x\",\"y\"],\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"aud\":[],\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"aud\":[[\"eider\"]],\"role\":\"read\"", false},
        {"\"iss\":\"https://issuer\",\"aud\":{\"eider\":1},\"role\":\"read\"", false},
        {RULED, false},
        {RULED ",\"role\":\"root\"", false},
        {RULED ",\"role\":\"none\"", false},
        {RULED ",\"role\":[\"admin\"]", false},
    };
    struct scene scene = scene_make(true);
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char claims[512];
        (void)snprintf(claims, sizeof(claims), "{\"exp\":1800000060,%s}", rows[i].claims);
        if (passes(&scene, scene.ec, "{\"alg\":\"ES256\",\"kid\":\"e\"}", claims) != rows[i].good) {
            TEST_FAIL("%s", claims);
        }
    }
    CHECK_U64(refused(&scene, AUTH_REFUSED_CLAIMS), COUNT_OF(rows) - 2);
    scene_end(&scene);
}

TEST(every_changed_byte_is_noticed)
{
    struct scene scene = scene_make(false);
    char token[4096];
    sign(scene.hmac, "{\"alg\":\"HS256\",\"kid\":\"h\"}", GOOD, token);
    CHECK(check_bearer(scene.auth, token, &scene.identity, &scene.err));
    /* All but the last character, whose two low bits are no part of the signature. */
    for (size_t i = 0; i + 1 < strlen(token); i++) {
        char before = token[i];
        token[i] = before == 'A' ? 'B' : 'A';
        CHECK(!check_bearer(scene.auth, token, &scene.identity, &scene.err));
        token[i] = before;
    }
    CHECK(check_bearer(scene.auth, token, &scene.identity, &scene.err));
    scene_end(&scene);
}

TEST(garbage_is_refused)
{
    static const char *const garbage[] = {
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "e30.e30.e30",
        "e30.e30.",
        ".e30.e30",
        "W10.e30.e30",
        "bnVsbA.e30.e30",
        "e30=.e30.e30",
        "e30 .e30.e30",
        "\xff.\xff.\xff",
    };
    static char large[20000];
    struct scene scene = scene_make(false);
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        CHECK(!check_bearer(scene.auth, garbage[i], &scene.identity, &scene.err));
        CHECK_U64(scene.err.kind, ERR_UNAUTHENTICATED);
    }
    for (size_t size = 8190; size < 8196; size++) {
        memset(large, 'A', size);
        large[2] = '.';
        large[size - 100] = '.';
        large[size] = '\0';
        CHECK(!check_bearer(scene.auth, large, &scene.identity, &scene.err));
    }
    char claims[1500] = "{\"exp\":1800000060,\"role\":\"read\",\"deep\":";
    memset(claims + strlen(claims), '[', 700);
    CHECK(!passes(&scene, scene.hmac, "{\"alg\":\"HS256\",\"kid\":\"h\"}", claims));
    scene_end(&scene);
}

/* A good token of `size` bytes: one claim is that long. */
static void sign_long(struct str secret, size_t size, char token[static 20000])
{
    static char claims[20000];
    static char payload[20000];
    char header[64];
    char signature[64];
    encode(STR("{\"alg\":\"HS256\",\"kid\":\"h\"}"), header, sizeof(header));
    size_t payload_size = size - strlen(header) - 2 - 43;
    int len = snprintf(claims, sizeof(claims), "{\"role\":\"read\",\"exp\":1800000060,\"x\":\"");
    while ((size_t)len < payload_size * 3 / 4 - 2) {
        claims[len++] = 'x';
    }
    (void)snprintf(claims + len, 3, "\"}");
    encode(str_of(claims), payload, sizeof(payload));
    (void)snprintf(token, 20000, "%s.%.9000s", header, payload);
    struct sha256 mac = digest_hmac_sha256(secret, str_of(token));
    encode(str_make((const char *)mac.bytes, sizeof(mac.bytes)), signature, sizeof(signature));
    size_t at = strlen(token);
    (void)snprintf(token + at, 20000 - at, ".%s", signature);
}

TEST(a_token_has_at_most_8_kib)
{
    static char token[20000];
    struct scene scene = scene_make(false);
    char secret[64] = "";
    size_t size = jose_b64_dec(json_object_get(scene.hmac, "k"), secret, sizeof(secret));
    CHECK_U64(size, 32);
    sign_long(str_make(secret, size), 8190, token);
    CHECK(strlen(token) <= 8192);
    CHECK_OK(check_bearer(scene.auth, token, &scene.identity, &scene.err), scene.err);
    sign_long(str_make(secret, size), 8196, token);
    CHECK(strlen(token) > 8192);
    CHECK(!check_bearer(scene.auth, token, &scene.identity, &scene.err));
    scene_end(&scene);
}

TEST(what_was_right_is_right_until_the_keys_change)
{
    struct scene scene = scene_make(false);
    char token[4096];
    sign(scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"r\"}", "{\"role\":\"read\",\"exp\":1800000002}",
         token);
    char text[4200];
    (void)snprintf(text, sizeof(text), "bearer   %s ", token);
    const struct auth_credentials credentials = {.authorization = str_of(text)};
    for (int64_t ms = 0; ms < 2000; ms += 500) {
        CHECK_OK(auth_check(scene.auth, &credentials, NOW_MS + ms, &scene.identity, &scene.err),
                 scene.err);
    }
    CHECK(!auth_check(scene.auth, &credentials, NOW_MS + 2000, &scene.identity, &scene.err));
    CHECK_OK(auth_check(scene.auth, &credentials, NOW_MS, &scene.identity, &scene.err), scene.err);
    write_keys(scene.folder.keys, json_pack("[o]", key_public(scene.ec)));
    CHECK_OK(auth_refresh(scene.auth, 1, &scene.err), scene.err);
    CHECK(!auth_check(scene.auth, &credentials, NOW_MS, &scene.identity, &scene.err));
    scene_end(&scene);
}

TEST(key_files_that_are_wrong_are_refused)
{
    static const char *const wrong[] = {
        "",
        "x",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[7]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}]}",
        "{\"keys\":[{\"kty\":\"oct\",\"k\":7}]}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}",
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"AA\",\"y\":\"AA\"}]}",
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\"}]}",
        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}]}",
    };
    struct folder folder = folder_make();
    struct err err;
    CHECK(open_auth(&folder, false, &err) == NULL); /* none is there */
    CHECK_U64(err.kind, ERR_INVALID);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        write_text(folder.keys, wrong[i]);
        CHECK(open_auth(&folder, false, &err) == NULL);
        CHECK_U64(err.kind, ERR_INVALID);
    }
    folder_remove(&folder);
}

TEST(a_key_that_contradicts_itself_is_refused)
{
    struct folder folder = folder_make();
    struct err err;
    json_t *rsa = key_make("{\"alg\":\"RS256\",\"kid\":\"r\"}");
    json_t *public = key_public(rsa);
    (void)json_object_set_new(public, "alg", json_string("HS256"));
    write_keys(folder.keys, json_pack("[o]", public));
    CHECK(open_auth(&folder, false, &err) == NULL);
    CHECK_U64(err.kind, ERR_INVALID);
    json_decref(rsa);
    folder_remove(&folder);
}

TEST(keys_for_other_things_are_passed_over)
{
    struct scene scene = scene_make(false);
    json_t *wide = key_public(scene.rsa);
    json_t *secret = key_public(scene.rsa);
    (void)json_object_set_new(wide, "alg", json_string("RS512"));
    (void)json_object_set_new(secret, "use", json_string("enc"));
    json_object_del(secret, "alg");
    write_keys(scene.folder.keys, json_pack("[o,o,o]", wide, secret, key_public(scene.ec)));
    CHECK_OK(auth_reload(scene.auth, &scene.err), scene.err);
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS512\",\"kid\":\"r\"}", GOOD));
    CHECK(!passes(&scene, scene.rsa, "{\"alg\":\"RS256\",\"kid\":\"r\"}", GOOD));
    CHECK(passes(&scene, scene.ec, "{\"alg\":\"ES256\",\"kid\":\"e\"}", GOOD));
    scene_end(&scene);
}

static const struct test_case cases[] = {
    TEST_CASE(each_algorithm_passes_with_its_own_key),
    TEST_CASE(an_rsa_public_key_is_no_hmac_secret),
    TEST_CASE(the_algorithm_is_the_keys),
    TEST_CASE(no_algorithm_at_all_is_refused),
    TEST_CASE(the_key_is_the_one_that_is_named),
    TEST_CASE(without_a_name_two_keys_of_a_kind_are_none),
    TEST_CASE(what_is_critical_is_not_understood),
    TEST_CASE(a_token_lives_from_its_beginning_to_its_end),
    TEST_CASE(issuer_audience_and_role_have_to_be_there),
    TEST_CASE(every_changed_byte_is_noticed),
    TEST_CASE(garbage_is_refused),
    TEST_CASE(a_token_has_at_most_8_kib),
    TEST_CASE(what_was_right_is_right_until_the_keys_change),
    TEST_CASE(key_files_that_are_wrong_are_refused),
    TEST_CASE(a_key_that_contradicts_itself_is_refused),
    TEST_CASE(keys_for_other_things_are_passed_over),
};

TEST_MAIN(cases)
