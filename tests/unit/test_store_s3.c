/* The S3 store against a server on loopback that plays a script: one answer per request. */
#include "test.h"

#include "clock.h"
#include "mem.h"
#include "net.h"
#include "store.h"
#include "thread.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    REQUESTS_MAX = 16,
    REQUEST_SIZE = 4096
};

/* Special answers: none at all, the connection closed; silence until the client closes it; and %ID%
 * stands for the id of the first request. */
#define HANG_UP ""
#define SILENCE "silence"

struct player {
    const char *const *answers; /* NULL at the end; the last one is repeated */
    int listener;
    pthread_t thread;
    char requests[REQUESTS_MAX][REQUEST_SIZE];
    size_t requests_count;
    char id[64];
};

static bool read_request(int fd, char *text)
{
    size_t len = 0;
    while (len + 1 < REQUEST_SIZE) {
        ssize_t got = read(fd, text + len, REQUEST_SIZE - 1 - len);
        if (got <= 0) {
            return false;
        }
        len += (size_t)got;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "content-length: ");
        size_t body = length == NULL ? 0 : (size_t)strtoul(length + 16, NULL, 10);
        if (end != NULL && len >= (size_t)(end + 4 - text) + body) {
            return true;
        }
    }
    return false;
}

static void remember_id(struct player *player, const char *request)
{
    const char *id = strstr(request, "x-amz-meta-eider-id: ");
    if (id != NULL && player->id[0] == '\0') {
        (void)snprintf(player->id, sizeof(player->id), "%.32s", id + 21);
    }
}

static void send_answer(struct player *player, int fd, const char *answer)
{
    const char *mark = strstr(answer, "%ID%");
    char text[2048];
    if (strcmp(answer, SILENCE) == 0) {
        (void)!read(fd, text, sizeof(text));
        return;
    }
    int len = mark == NULL ? snprintf(text, sizeof(text), "%s", answer)
                           : snprintf(text, sizeof(text), "%.*s%s%s", (int)(mark - answer), answer,
                                      player->id, mark + 4);
    (void)!write(fd, text, (size_t)len);
}

static void *play(void *argument)
{
    struct player *player = argument;
    const char *const *answer = player->answers;
    for (int fd; (fd = accept(player->listener, NULL, NULL)) >= 0;) {
        char *request = player->requests[player->requests_count % REQUESTS_MAX];
        if (read_request(fd, request)) {
            player->requests_count++;
            remember_id(player, request);
            send_answer(player, fd, *answer);
            answer += answer[1] == NULL ? 0 : 1;
        }
        (void)close(fd);
    }
    return NULL;
}

struct fixture {
    struct player *player;
    struct net *net;
    struct store *store;
    struct cancel cancel;
    struct err err;
    struct store_object object;
};

static bool fixture_init(struct fixture *f, const char *const *answers)
{
    *f = (struct fixture){.player = mem_alloc(sizeof(*f->player))};
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    f->player->answers = answers;
    f->player->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(f->player->listener, (struct sockaddr *)&address, size) != 0 ||
        listen(f->player->listener, 8) != 0 ||
        getsockname(f->player->listener, (struct sockaddr *)&address, &size) != 0) {
        return false;
    }
    f->player->thread = thread_start("player", play, f->player);
    char endpoint[64];
    (void)snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", ntohs(address.sin_port));
    f->net = net_create(&(struct net_options){.first_byte_timeout_ms = 5000});
    cancel_init(&f->cancel, INT64_MAX);
    f->store = store_open_s3(f->net,
                             &(struct store_s3_options){.endpoint = str_of(endpoint),
                                                        .bucket = STR("bkt"),
                                                        .access_key = STR("key"),
                                                        .secret_key = STR("the-secret"),
                                                        .session_token = STR("the-token")},
                             &f->err);
    return f->store != NULL;
}

static void fixture_finish(struct fixture *f)
{
    store_close(f->store);
    net_destroy(f->net);
    cancel_finish(&f->cancel);
    (void)shutdown(f->player->listener, SHUT_RDWR);
    (void)pthread_join(f->player->thread, NULL);
    (void)close(f->player->listener);
    mem_free(f->player);
}

static bool put(struct fixture *f, bool create_only)
{
    const struct store_source source = {.bytes = STR("hello"), .fd = -1};
    return store_put(f->store, STR("a b"), &source,
                     &(struct store_put_options){.create_only = create_only}, &f->cancel,
                     &f->object, &f->err);
}

static bool get(struct fixture *f)
{
    struct buf buf;
    buf_init(&buf, 100);
    bool good = store_get(f->store, STR("a b"), &buf, &f->cancel, &f->object, &f->err);
    buf_finish(&buf);
    return good;
}

static bool note(void *context, struct str key, const struct store_object *object, struct err *err)
{
    (void)err;
    buf_append(context, key);
    buf_append_format(context, "=%d;", object == NULL ? -1 : (int)object->size);
    return true;
}

#define ANSWERS(...) static const char *const answers[] = {__VA_ARGS__, NULL}
#define WITH_STORE(f)                         \
    CLEANUP(fixture_finish) struct fixture f; \
    CHECK(fixture_init(&f, answers))

#define END "Connection: close\r\n\r\n"
#define STATUS(line) "HTTP/1.1 " line "\r\nContent-Length: 0\r\nETag: \"e\"\r\n" END
#define BODY(line, text) "HTTP/1.1 " line "\r\n" END text
#define ERROR(line, code) BODY(line, "<Error><Code>" code "</Code></Error>")
#define OBJECT(id) \
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"q\"\r\nx-amz-meta-eider-id: " id "\r\n" END

static bool note_upload(void *context, struct str key, struct str id, struct err *err)
{
    (void)err;
    buf_append(context, key);
    buf_append_format(context, "=%.*s;", STR_ARG(id));
    return true;
}

#define UPLOADS(text) \
    BODY("200 OK", "<ListMultipartUploadsResult>" text "</ListMultipartUploadsResult>")
#define UPLOAD(key, id)                                                        \
    "<Upload><Initiator><ID>i</ID></Initiator><Key>" key "</Key><UploadId>" id \
    "</UploadId></Upload>"

TEST(uploads_are_listed_page_by_page)
{
    ANSWERS(UPLOADS(UPLOAD("p%2Fa+b", "u1") UPLOAD(
                "q", "u2") "<EncodingType>url</EncodingType>"
                           "<IsTruncated>true</IsTruncated><NextKeyMarker>p%2Fa+b</NextKeyMarker>"
                           "<NextUploadIdMarker>u1</NextUploadIdMarker>"),
            UPLOADS("<IsTruncated>false</IsTruncated>" UPLOAD("p/c", "u3")));
    WITH_STORE(f);
    struct buf seen;
    buf_init(&seen, 1000);
    CHECK_OK(store_visit_uploads(f.store, STR("p/"), note_upload, &seen, &f.cancel, &f.err), f.err);
    CHECK_STR(buf_str(&seen), "p/a b=u1;p/c=u3;");
    CHECK(strstr(f.player->requests[0], "prefix=p%2F&uploads=") != NULL);
    CHECK(strstr(f.player->requests[1], "key-marker=p%2Fa%20b&") != NULL);
    CHECK(strstr(f.player->requests[1], "upload-id-marker=u1&") != NULL);
    buf_finish(&seen);
}

TEST(a_list_of_uploads_that_does_not_go_on_is_an_error)
{
    ANSWERS(UPLOADS("<IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"));
    WITH_STORE(f);
    struct buf seen;
    buf_init(&seen, 1000);
    CHECK(!store_visit_uploads(f.store, STR(""), note_upload, &seen, &f.cancel, &f.err));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK_U64(f.player->requests_count, 2);
    buf_finish(&seen);
}

TEST(an_upload_that_is_gone_already_is_aborted)
{
    ANSWERS(ERROR("404 N", "NoSuchUpload"), STATUS("204 N"), ERROR("403 F", "AccessDenied"));
    WITH_STORE(f);
    CHECK_OK(store_abort_upload(f.store, STR("a"), STR("u 1"), &f.cancel, &f.err), f.err);
    CHECK(strncmp(f.player->requests[0], "DELETE /bkt/a?uploadId=u%201 ", 29) == 0);
    CHECK_OK(store_abort_upload(f.store, STR("a"), STR("u1"), &f.cancel, &f.err), f.err);
    CHECK(!store_abort_upload(f.store, STR("a"), STR("u1"), &f.cancel, &f.err));
    CHECK_U64(f.err.kind, ERR_STORE_DENIED);
}

TEST(a_put_survives_two_failures)
{
    ANSWERS(ERROR("500 X", "InternalError"), STATUS("503 X"), STATUS("200 OK"));
    WITH_STORE(f);
    CHECK_OK(put(&f, false), f.err);
    CHECK_U64(f.object.size, 5);
    CHECK(strcmp(f.object.etag, "\"e\"") == 0);
}

TEST(a_put_gives_up_after_three)
{
    ANSWERS(ERROR("503 X", "SlowDown"));
    WITH_STORE(f);
    CHECK(!put(&f, false));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK(strstr(f.err.message, "SlowDown") != NULL);
    CHECK_U64(f.player->requests_count, 3);
}

TEST(what_a_put_sends)
{
    ANSWERS(STATUS("200 OK"));
    WITH_STORE(f);
    CHECK_OK(put(&f, true), f.err);
    const char *request = f.player->requests[0];
    CHECK(strncmp(request, "PUT /bkt/a%20b HTTP/1.1\r\n", 25) == 0);
    CHECK(strstr(request, "if-none-match: *\r\n") != NULL);
    CHECK(strstr(request, "x-amz-checksum-crc32: NhCmhg==\r\n") != NULL);
    CHECK(strstr(request, "x-amz-security-token: the-token\r\n") != NULL);
    CHECK(strstr(request, "Content-Length: 5\r\n") != NULL);
    CHECK(strstr(request, "Expect") == NULL);
    CHECK(strstr(request, "the-secret") == NULL);
}

TEST(a_lost_answer_to_a_create_is_our_own_object)
{
    ANSWERS(HANG_UP, ERROR("412 P", "PreconditionFailed"), OBJECT("%ID%"));
    WITH_STORE(f);
    CHECK_OK(put(&f, true), f.err);
    CHECK(strcmp(f.object.etag, "\"q\"") == 0);
}

TEST(an_object_with_another_id_is_a_conflict)
{
    ANSWERS(HANG_UP, ERROR("412 P", "PreconditionFailed"), OBJECT("z"));
    WITH_STORE(f);
    CHECK(!put(&f, true));
    CHECK_U64(f.err.kind, ERR_CONFLICT);
}

TEST(a_create_that_was_kept_in_spite_of_504_is_good)
{
    ANSWERS(STATUS("504 X"), STATUS("504 X"), STATUS("504 X"), OBJECT("%ID%"));
    WITH_STORE(f);
    CHECK_OK(put(&f, true), f.err);
    CHECK_U64(f.object.size, 5);
    CHECK(strcmp(f.object.etag, "\"q\"") == 0);
    CHECK_U64(f.player->requests_count, 4);
    CHECK(strncmp(f.player->requests[3], "HEAD ", 5) == 0);
}

TEST(a_create_that_504_refused_is_the_stores_failure)
{
    ANSWERS(STATUS("504 X"), STATUS("504 X"), STATUS("504 X"), STATUS("404 N"));
    WITH_STORE(f);
    CHECK(!put(&f, true));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK(strstr(f.err.message, "504") != NULL);
}

TEST(a_create_that_504_hides_for_good_is_uncertain)
{
    ANSWERS(STATUS("504 X"));
    WITH_STORE(f);
    CHECK(!put(&f, true));
    CHECK_U64(f.err.kind, ERR_UNCERTAIN);
}

/* The deadline passes while the store is silent about the put. */
static bool put_late(struct fixture *f)
{
    f->cancel.deadline_ms = clock_now_ms() + 200;
    return put(f, true);
}

TEST(a_create_that_was_kept_too_late_is_good)
{
    ANSWERS(SILENCE, OBJECT("%ID%"));
    WITH_STORE(f);
    CHECK_OK(put_late(&f), f.err);
    CHECK(clock_now_ms() >= f.cancel.deadline_ms);
    CHECK(strcmp(f.object.etag, "\"q\"") == 0);
}

TEST(a_create_that_is_absent_too_late_is_a_timeout)
{
    ANSWERS(SILENCE, STATUS("404 N"));
    WITH_STORE(f);
    CHECK(!put_late(&f));
    CHECK_U64(f.err.kind, ERR_TIMEOUT);
    CHECK_U64(f.player->requests_count, 2);
}

TEST(a_create_that_cannot_be_looked_for_is_uncertain)
{
    ANSWERS(SILENCE, STATUS("403 F"));
    WITH_STORE(f);
    CHECK(!put_late(&f));
    CHECK_U64(f.err.kind, ERR_UNCERTAIN);
}

TEST(a_range_is_written_where_it_is_wanted)
{
    ANSWERS("HTTP/1.1 206 P\r\nContent-Length: 2\r\nContent-Range: bytes 4-5/10\r\n" END "45");
    WITH_STORE(f);
    int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    bool good = store_get_range(f.store, STR("a"), "\"e\"", 4, 2, fd, 1, &f.cancel, &f.err);
    char got[4] = "";
    bool placed = pread(fd, got, sizeof(got), 0) == 3 && memcmp(got, "\00045", 3) == 0;
    (void)close(fd);
    CHECK_OK(good, f.err);
    CHECK(placed);
    CHECK(strstr(f.player->requests[0], "range: bytes=4-5\r\n") != NULL);
}

TEST(answers_that_stay_lost_are_uncertain)
{
    ANSWERS(HANG_UP);
    WITH_STORE(f);
    CHECK(!put(&f, false));
    CHECK_U64(f.err.kind, ERR_UNCERTAIN);
    CHECK(!get(&f));
    CHECK_U64(f.err.kind, ERR_STORE);
}

TEST(refusals_are_told_apart)
{
    ANSWERS(ERROR("403 F", "AccessDenied"), ERROR("404 N", "NoSuchBucket"),
            ERROR("404 N", "NoSuchKey"), ERROR("400 B", "ExpiredToken"),
            "HTTP/1.1 307 R\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n" END);
    WITH_STORE(f);
    CHECK(!put(&f, false));
    CHECK_U64(f.err.kind, ERR_STORE_DENIED);
    CHECK(!put(&f, false));
    CHECK_U64(f.err.kind, ERR_STORE_MISSING);
    CHECK(strstr(f.err.message, "the bucket \"bkt\" does not exist") != NULL);
    CHECK(!get(&f));
    CHECK_U64(f.err.kind, ERR_STORE_MISSING);
    CHECK(!get(&f));
    CHECK_U64(f.err.kind, ERR_STORE_DENIED);
    CHECK(!get(&f));
    CHECK_U64(f.err.kind, ERR_STORE);
    CHECK(strstr(f.err.message, "http://elsewhere/") != NULL);
    CHECK_U64(f.player->requests_count, 5);
}

TEST(a_body_that_ends_early_is_asked_for_again)
{
    ANSWERS("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n" END "abc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" END "abc");
    WITH_STORE(f);
    CHECK_OK(get(&f), f.err);
    CHECK_U64(f.object.size, 3);
}

TEST(the_clock_of_the_store_is_learnt)
{
    ANSWERS("HTTP/1.1 403 F\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n" END,
            STATUS("200 OK"));
    WITH_STORE(f);
    CHECK_OK(get(&f), f.err);
    CHECK(strstr(f.player->requests[1], "x-amz-date: 19941106T0849") != NULL);
}

TEST(lists_go_on_over_pages)
{
    ANSWERS(BODY("200 OK", "<ListBucketResult><EncodingType>url</EncodingType>"
                           "<IsTruncated>true</IsTruncated>"
                           "<NextContinuationToken>n/+=</NextContinuationToken>"
                           "<Contents><Key>p/a+b%2B</Key><Size>1</Size></Contents>"
                           "<Contents><Key>p/</Key><Size>0</Size></Contents></ListBucketResult>"),
            BODY("200 OK", "<ListBucketResult><IsTruncated>false</IsTruncated>"
                           "<Contents><Key>p/c+d</Key><Size>2</Size></Contents>"
                           "</ListBucketResult>"));
    WITH_STORE(f);
    struct buf seen;
    buf_init(&seen, 1000);
    bool good = store_list(f.store, STR("p/"), note, &seen, &f.cancel, &f.err);
    bool same = str_equal(buf_str(&seen), STR("p/a b+=1;p/c+d=2;"));
    buf_finish(&seen);
    CHECK_OK(good, f.err);
    CHECK(same);
    CHECK(strstr(f.player->requests[1], "continuation-token=n%2F%2B%3D&") != NULL);
}

TEST(a_raised_cancel_ends_the_call)
{
    ANSWERS(STATUS("200 OK"));
    WITH_STORE(f);
    cancel_raise(&f.cancel, ERR_CANCELLED);
    CHECK(!put(&f, false));
    CHECK_U64(f.err.kind, ERR_CANCELLED);
    CHECK_U64(f.player->requests_count, 0);
}

TEST(credentials_that_would_break_a_header_are_refused)
{
    struct err err;
    struct store_s3_options options = {.endpoint = STR("http://x"),
                                       .bucket = STR("bkt"),
                                       .access_key = STR("a\r\nb"),
                                       .secret_key = STR("s")};
    CHECK(store_open_s3(NULL, &options, &err) == NULL);
    CHECK_U64(err.kind, ERR_INVALID);
}

/* What went wrong with the keys is told, also for HEAD, whose answer has no body. */
static bool head_says(const char *const *answers, const char *words)
{
    CLEANUP(fixture_finish) struct fixture f;
    return fixture_init(&f, answers) &&
           !store_head(f.store, STR("a b"), &f.cancel, &f.object, &f.err) &&
           f.err.kind == ERR_STORE_DENIED && strstr(f.err.message, words) != NULL;
}

TEST(tokens_and_keys_are_told_apart)
{
    ANSWERS(STATUS("400 X"), ERROR("400 X", "ExpiredToken"));
    CHECK(head_says(answers, "the session token has expired"));
    static const char *const wrong[] = {STATUS("403 X"), ERROR("403 X", "InvalidTokenId"), NULL};
    CHECK(head_says(wrong, "the session token is not valid"));
    static const char *const key[] = {STATUS("403 X"), ERROR("403 X", "InvalidAccessKeyId"), NULL};
    CHECK(head_says(key, "the access key is not known"));
    static const char *const bare[] = {STATUS("403 X"), STATUS("200 OK"), NULL};
    CHECK(head_says(bare, "access denied to \"a b\" (status 403, no error code)"));
}

TEST(another_region_is_named)
{
    ANSWERS(BODY("400 X", "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-1</Region>"
                          "</Error>"));
    WITH_STORE(f);
    CHECK(!get(&f));
    CHECK(strstr(f.err.message, "is in the region \"eu-1\", not \"us-east-1\"") != NULL);
}

static const struct test_case cases[] = {
    TEST_CASE(uploads_are_listed_page_by_page),
    TEST_CASE(a_list_of_uploads_that_does_not_go_on_is_an_error),
    TEST_CASE(an_upload_that_is_gone_already_is_aborted),
    TEST_CASE(a_put_survives_two_failures),
    TEST_CASE(tokens_and_keys_are_told_apart),
    TEST_CASE(another_region_is_named),
    TEST_CASE(a_put_gives_up_after_three),
    TEST_CASE(what_a_put_sends),
    TEST_CASE(a_lost_answer_to_a_create_is_our_own_object),
    TEST_CASE(an_object_with_another_id_is_a_conflict),
    TEST_CASE(a_create_that_was_kept_in_spite_of_504_is_good),
    TEST_CASE(a_create_that_504_refused_is_the_stores_failure),
    TEST_CASE(a_create_that_504_hides_for_good_is_uncertain),
    TEST_CASE(a_create_that_was_kept_too_late_is_good),
    TEST_CASE(a_create_that_is_absent_too_late_is_a_timeout),
    TEST_CASE(a_create_that_cannot_be_looked_for_is_uncertain),
    TEST_CASE(a_range_is_written_where_it_is_wanted),
    TEST_CASE(answers_that_stay_lost_are_uncertain),
    TEST_CASE(refusals_are_told_apart),
    TEST_CASE(a_body_that_ends_early_is_asked_for_again),
    TEST_CASE(the_clock_of_the_store_is_learnt),
    TEST_CASE(lists_go_on_over_pages),
    TEST_CASE(a_raised_cancel_ends_the_call),
    TEST_CASE(credentials_that_would_break_a_header_are_refused),
};
TEST_MAIN(cases)
