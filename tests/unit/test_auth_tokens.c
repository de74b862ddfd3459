/* The file of tokens, and what the tokens in it are worth. */
#include "auth_fixture.h"

#include "clock.h"

#include <sys/stat.h>

static const char hash_of_x[] = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881";

static struct auth *open_auth(const struct folder *folder, bool required, struct err *err)
{
    const struct auth_options options = {.required = required, .tokens_path = folder->tokens};
    return auth_create(&options, err);
}

struct seen {
    size_t count;
    struct token_info last;
};

static void see(void *context, const struct token_info *info)
{
    struct seen *seen = context;
    seen->count++;
    seen->last = *info;
}

TEST(a_token_is_made_listed_and_revoked)
{
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE];
    struct seen seen = {0};
    struct err err;
    struct stat info;
    CHECK_OK(tokens_create(folder.tokens, STR("grafana"), AUTH_READ, token, &err), err);
    CHECK_U64(strlen(token), 49);
    CHECK(strncmp(token, "eider_", 6) == 0);
    CHECK(stat(folder.tokens, &info) == 0);
    CHECK_U64(info.st_mode & 0777, 0600);
    CHECK_OK(tokens_visit(folder.tokens, see, &seen, &err), err);
    CHECK_U64(seen.count, 1);
    CHECK_STR(str_of(seen.last.name), "grafana");
    CHECK_U64(seen.last.role, AUTH_READ);
    CHECK_U64(strlen(seen.last.created), 10);
    CHECK_OK(tokens_revoke(folder.tokens, STR("grafana"), &err), err);
    seen = (struct seen){0};
    CHECK_OK(tokens_visit(folder.tokens, see, &seen, &err), err);
    CHECK_U64(seen.count, 0);
    folder_remove(&folder);
}

TEST(the_file_does_not_hold_the_token)
{
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE];
    char text[1024] = "";
    struct err err;
    CHECK_OK(tokens_create(folder.tokens, STR("a"), AUTH_ADMIN, token, &err), err);
    FILE *file = fopen(folder.tokens, "r");
    CHECK(file != NULL);
    (void)!fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    CHECK(strstr(text, "a admin ") != NULL);
    CHECK(strstr(text, token) == NULL);
    CHECK(strstr(text, token + 6) == NULL);
    folder_remove(&folder);
}

TEST(names_are_plain_and_taken_once)
{
    static const char *const wrong[] = {"",
                                        " ",
                                        "a b",
                                        "-a",
                                        ".a",
                                        "a/b",
                                        "a\n",
                                        "\xc3\xa4",
                                        "0123456789012345678901234567890123456789012345678901234567"
                                        "890123"};
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE];
    struct err err;
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        CHECK(!tokens_create(folder.tokens, str_of(wrong[i]), AUTH_READ, token, &err));
        CHECK_U64(err.kind, ERR_INVALID);
    }
    CHECK_OK(tokens_create(folder.tokens, STR("A.b_c-9"), AUTH_READ, token, &err), err);
    CHECK(!tokens_create(folder.tokens, STR("A.b_c-9"), AUTH_WRITE, token, &err));
    CHECK_U64(err.kind, ERR_CONFLICT);
    CHECK(!tokens_revoke(folder.tokens, STR("other"), &err));
    CHECK_U64(err.kind, ERR_NOT_FOUND);
    folder_remove(&folder);
}

TEST(a_broken_file_is_refused_with_its_line)
{
    static const char *const broken[] = {
        "a read",
        "a read %s",
        "a read %s 2026-01-31 more",
        "a  read %s 2026-01-31",
        "a root %s 2026-01-31",
        "a none %s 2026-01-31",
        "a read %sff 2026-01-31",
        "a read zz 2026-01-31",
        "a read %s yesterday!",
        "a/b read %s 2026-01-31",
        "b read %s 2026-01-31",
        "a read %s 2026-01-31\r",
    };
    struct folder folder = folder_make();
    struct err err;
    for (size_t i = 0; i < COUNT_OF(broken); i++) {
        char line[256];
        char text[512];
        const char *at = strstr(broken[i], "%s");
        int head = at == NULL ? (int)strlen(broken[i]) : (int)(at - broken[i]);
        (void)snprintf(line, sizeof(line), "%.*s%s%s", head, broken[i], at == NULL ? "" : hash_of_x,
                       at == NULL ? "" : at + 2);
        (void)snprintf(text, sizeof(text), "# c\n\nb read %s 2026-01-31\n%s\n", hash_of_x, line);
        write_text(folder.tokens, text);
        CHECK(open_auth(&folder, true, &err) == NULL);
        CHECK_U64(err.kind, ERR_INVALID);
        CHECK(strstr(err.message, "line 4 ") != NULL);
    }
    folder_remove(&folder);
}

TEST(each_token_has_its_role)
{
    static const enum auth_role roles[] = {AUTH_READ, AUTH_WRITE, AUTH_ADMIN};
    struct folder folder = folder_make();
    char tokens[COUNT_OF(roles)][TOKEN_TEXT_SIZE];
    struct err err;
    struct auth_identity identity;
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        CHECK_OK(tokens_create(folder.tokens, str_of(auth_role_name(roles[i])), roles[i], tokens[i],
                               &err),
                 err);
    }
    struct auth *auth = open_auth(&folder, true, &err);
    CHECK(auth != NULL);
    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        CHECK_OK(check_bearer(auth, tokens[i], &identity, &err), err);
        CHECK_U64(identity.role, roles[i]);
        CHECK_STR(str_of(identity.name), auth_role_name(roles[i]));
    }
    auth_destroy(auth);
    folder_remove(&folder);
}

TEST(what_is_no_token_is_refused_with_one_text)
{
    static const char *const wrong[] = {"", "eider_", "eider_x", "x", "a.b.c", "Bearer x"};
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE + 8];
    struct err err;
    struct auth_identity identity;
    CHECK_OK(tokens_create(folder.tokens, STR("a"), AUTH_READ, token, &err), err);
    struct auth *auth = open_auth(&folder, true, &err);
    CHECK(auth != NULL);
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        CHECK(!check_bearer(auth, wrong[i], &identity, &err));
        CHECK_U64(err.kind, ERR_UNAUTHENTICATED);
        CHECK_STR(str_of(err.message), "Could not validate credentials");
        CHECK_U64(identity.role, AUTH_NOBODY);
    }
    token[49] = 'A';
    token[50] = '\0';
    CHECK(!check_bearer(auth, token, &identity, &err));
    token[48] = token[48] == 'A' ? 'B' : 'A';
    token[49] = '\0';
    CHECK(!check_bearer(auth, token, &identity, &err));
    const struct auth_credentials none = {.session_id = STR("")};
    CHECK(!auth_check(auth, &none, NOW_MS, &identity, &err));
    CHECK_STR(str_of(err.message), "Could not validate credentials");
    CHECK_U64(metric_value(&auth_refusals(auth)[AUTH_REFUSED_UNKNOWN]), COUNT_OF(wrong) + 2);
    CHECK_U64(metric_value(&auth_refusals(auth)[AUTH_REFUSED_MISSING]), 1);
    auth_destroy(auth);
    folder_remove(&folder);
}

TEST(the_cookie_counts_where_no_header_is)
{
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE];
    struct err err;
    struct auth_identity identity;
    CHECK_OK(tokens_create(folder.tokens, STR("a"), AUTH_READ, token, &err), err);
    struct auth *auth = open_auth(&folder, true, &err);
    CHECK(auth != NULL);
    struct auth_credentials credentials = {.session_id = str_of(token)};
    CHECK_OK(auth_check(auth, &credentials, NOW_MS, &identity, &err), err);
    credentials.authorization = STR("Bearer eider_wrong");
    CHECK(!auth_check(auth, &credentials, NOW_MS, &identity, &err));
    credentials.authorization = STR("Basic YTpi");
    CHECK(!auth_check(auth, &credentials, NOW_MS, &identity, &err));
    auth_destroy(auth);
    folder_remove(&folder);
}

TEST(where_nothing_is_asked_wrong_tokens_are_refused_all_the_same)
{
    struct folder folder = folder_make();
    char token[TOKEN_TEXT_SIZE];
    struct err err;
    struct auth_identity identity;
    struct auth *auth = open_auth(&folder, false, &err);
    CHECK(auth != NULL);
    const struct auth_credentials none = {.session_id = STR("")};
    const struct auth_credentials foreign = {.session_id = STR("sess_x")};
    CHECK_OK(auth_check(auth, &none, NOW_MS, &identity, &err), err);
    CHECK_U64(identity.role, AUTH_ADMIN);
    CHECK_OK(check_bearer(auth, "of-somebody-else", &identity, &err), err); /* there are none */
    CHECK_OK(tokens_create(folder.tokens, STR("a"), AUTH_READ, token, &err), err);
    CHECK_OK(auth_reload(auth, &err), err);
    CHECK(!check_bearer(auth, "of-somebody-else", &identity, &err));
    CHECK_OK(check_bearer(auth, token, &identity, &err), err);
    CHECK_U64(identity.role, AUTH_READ);
    CHECK_OK(auth_check(auth, &foreign, NOW_MS, &identity, &err), err);
    CHECK_U64(identity.role, AUTH_ADMIN);
    auth_destroy(auth);
    folder_remove(&folder);
}

TEST(a_changed_file_is_read_again_and_a_wrong_one_changes_nothing)
{
    struct folder folder = folder_make();
    char first[TOKEN_TEXT_SIZE];
    char second[TOKEN_TEXT_SIZE];
    struct err err;
    struct auth_identity identity;
    CHECK_OK(tokens_create(folder.tokens, STR("first"), AUTH_READ, first, &err), err);
    struct auth *auth = open_auth(&folder, true, &err);
    CHECK(auth != NULL);
    CHECK_OK(tokens_create(folder.tokens, STR("second"), AUTH_READ, second, &err), err);
    CHECK(!check_bearer(auth, second, &identity, &err));
    CHECK_OK(auth_refresh(auth, 5000, &err), err);
    CHECK_OK(check_bearer(auth, second, &identity, &err), err);
    CHECK_OK(tokens_revoke(folder.tokens, STR("first"), &err), err);
    CHECK_OK(auth_refresh(auth, 5999, &err), err); /* too early */
    CHECK_OK(check_bearer(auth, first, &identity, &err), err);
    CHECK_OK(auth_refresh(auth, 6000, &err), err);
    CHECK(!check_bearer(auth, first, &identity, &err));
    write_text(folder.tokens, "nonsense\n");
    CHECK(!auth_refresh(auth, 7000, &err));
    CHECK_OK(auth_refresh(auth, 8000, &err), err); /* told once */
    CHECK_OK(check_bearer(auth, second, &identity, &err), err);
    CHECK(unlink(folder.tokens) == 0);
    CHECK_OK(auth_refresh(auth, 9000, &err), err);
    CHECK(!check_bearer(auth, second, &identity, &err));
    CHECK(!auth_has_any(auth));
    auth_destroy(auth);
    folder_remove(&folder);
}

TEST(the_graph_key_is_compared_whole)
{
    struct folder folder = folder_make();
    struct err err;
    struct auth_identity identity;
    const struct auth_options options = {
        .required = true, .tokens_path = folder.tokens, .graph_api_key = "secret"};
    struct auth *auth = auth_create(&options, &err);
    CHECK(auth != NULL);
    struct auth_credentials credentials = {.api_key = STR("secret")};
    CHECK_OK(auth_check(auth, &credentials, NOW_MS, &identity, &err), err);
    CHECK_U64(identity.role, AUTH_WRITE);
    static const char *const wrong[] = {"s", "secre", "secret ", "Secret"};
    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        credentials.api_key = str_of(wrong[i]);
        CHECK(!auth_check(auth, &credentials, NOW_MS, &identity, &err));
        CHECK_U64(err.kind, ERR_UNAUTHENTICATED);
    }
    credentials.api_key = STR("");
    CHECK(!auth_check(auth, &credentials, NOW_MS, &identity, &err));
    auth_destroy(auth);
    folder_remove(&folder);
}

static const struct test_case cases[] = {
    TEST_CASE(a_token_is_made_listed_and_revoked),
    TEST_CASE(the_file_does_not_hold_the_token),
    TEST_CASE(names_are_plain_and_taken_once),
    TEST_CASE(a_broken_file_is_refused_with_its_line),
    TEST_CASE(each_token_has_its_role),
    TEST_CASE(what_is_no_token_is_refused_with_one_text),
    TEST_CASE(the_cookie_counts_where_no_header_is),
    TEST_CASE(where_nothing_is_asked_wrong_tokens_are_refused_all_the_same),
    TEST_CASE(a_changed_file_is_read_again_and_a_wrong_one_changes_nothing),
    TEST_CASE(the_graph_key_is_compared_whole),
};

TEST_MAIN(cases)
