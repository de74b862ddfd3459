/* The list of allowed endpoints, and where requests end up under it: names are resolved by a table
 * of the test. */
#include "test.h"

#include "clock.h"
#include "fd.h"
#include "net_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <unistd.h>

/* --- the list --- */

static bool reads(const char *list)
{
    struct net_rules rules;
    struct err err;
    bool good = net_rules_read(&rules, str_of(list), &err);
    net_rules_finish(&rules);
    return good;
}

TEST(lists_that_are_well_formed)
{
    CHECK(reads("none"));
    CHECK(reads("minio"));
    CHECK(reads("minio:9000, *.example.com,*.example.com:8443"));
    CHECK(
        reads("10.0.0.0/8, fd00::/8, 10.1.2.3, 10.1.2.3:9000, [fd00::1]:9000, fd00::1, [fd00::1]"));
    CHECK(reads("0.0.0.0/0"));
    CHECK(reads("::/0"));
    CHECK(reads("localhost:9000"));
}

TEST(lists_that_are_not)
{
    static const char *const bad[] = {
        "",
        " ",
        "a,,b",
        "a,",
        "*",
        "*.",
        "*.*.example",
        "a*.example",
        "http://minio:9000",
        "minio/",
        "minio:",
        "minio:0",
        "minio:65536",
        "minio:9000:1",
        "m\xc3\xbc.example",
        "user@minio",
        "minio.",
        ".minio",
        "a..b",
        "127.1",
        "2130706433",
        "0x7f000001",
        "[minio]",
        "[::1",
        "[::1]9",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.1/8",
        "fd00::/129",
        "none,minio",
        "169.254.169.254",
        "169.254.0.0/16",
        "169.254.169.254:80",
        "fe80::/10",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "0.0.0.0",
        "0.0.0.0/8",
        "224.0.0.1",
        "100.100.100.200",
        "10.0.0.0/8:1",
    };
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        /* `none,minio` is two hosts, which is odd but well-formed. */
        bool expected = strcmp(bad[i], "none,minio") == 0;
        if (reads(bad[i]) != expected) {
            TEST_FAIL("'%s' was %s", bad[i], expected ? "refused" : "accepted");
        }
    }
}

/* --- requests --- */

/* host=address,address;... and how often it was asked. */
struct names {
    const char *table;
    atomic_uint asked;
};

static bool look_up(void *context, const char *host, struct net_answer *ret_answer)
{
    struct names *names = context;
    struct str rest = str_of(names->table);
    struct str row;
    *ret_answer = (struct net_answer){0};
    (void)atomic_fetch_add(&names->asked, 1);
    while (str_next_part(&rest, ';', &row)) {
        struct str name;
        struct str address;
        (void)str_next_part(&row, '=', &name);
        while (str_equal(name, str_of(host)) && str_next_part(&row, ',', &address)) {
            char text[NET_ADDRESS_TEXT_SIZE];
            (void)snprintf(text, sizeof(text), "%.*s", STR_ARG(address));
            if (net_address_parse(text, &ret_answer->addresses[ret_answer->count])) {
                ret_answer->count++;
            }
        }
    }
    return ret_answer->count > 0;
}

struct fixture {
    struct net *net;
    struct names names;
    struct err err;
    int listener;
    unsigned port;
};

static bool fixture_init(struct fixture *f, const char *list, const char *table)
{
    *f = (struct fixture){.names = {.table = table}, .listener = -1};
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool listens = bind(f->listener, (struct sockaddr *)&address, size) == 0 &&
                   listen(f->listener, 8) == 0 &&
                   getsockname(f->listener, (struct sockaddr *)&address, &size) == 0;
    f->port = ntohs(address.sin_port);
    f->net =
        net_create(&(struct net_options){.connect_timeout_ms = 1000, .first_byte_timeout_ms = 50});
    net_set_resolver(f->net, look_up, &f->names);
    return listens && (list == NULL || net_allow_endpoints(f->net, str_of(list), &f->err));
}

static void fixture_finish(struct fixture *f)
{
    net_destroy(f->net);
    fd_close(&f->listener);
}

/* Was there a connection since the last look? */
static bool was_called(struct fixture *f)
{
    CLEANUP(fd_close) int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
    return fd >= 0;
}

/* The kind of error that a request to http://host[:port of the listener] ends with: the listener
 * never answers, so one that arrives is ERR_STORE. */
static enum err_kind ask(struct fixture *f, const char *host, bool own)
{
    char url[300];
    (void)snprintf(url, sizeof(url), "http://%s:%u/x", host, f->port);
    const struct net_request request = {.method = "GET", .url = url, .into_fd = -1, .own = own};
    CLEANUP(net_response_finish) struct net_response response = {0};
    f->err = (struct err){0};
    return net_perform(f->net, &request, NULL, &response, &f->err) ? ERR_NONE : f->err.kind;
}

/* What the guard says of a URL, without sending anything. */
static bool passes(struct fixture *f, const char *url)
{
    const struct net_request request = {.method = "GET", .url = url, .into_fd = -1};
    struct net_pass pass;
    struct net_guard *guard = &f->net->guard;
    struct net_rules *rules = net_guard_hold_rules(guard);
    bool good =
        net_guard_check(guard, rules, &request, clock_now_ms() + 1000, NULL, &pass, &f->err);
    net_guard_drop_rules(guard, rules);
    return good;
}

#define PUBLIC_NAMES                                                                        \
    "ok.example=93.184.216.34;a.ok.example=93.184.216.34;b.a.ok.example=2606:4700::1;"      \
    "ok.example.evil.com=93.184.216.34;evilok.example=93.184.216.34;mixed.ok.example="      \
    "93.184.216.34,10.0.0.1;private.ok.example=10.0.0.1;loop.ok.example=127.0.0.1;"         \
    "six.ok.example=::1;nat.ok.example=64:ff9b::a00:1;four.ok.example=::ffff:10.0.0.1;"     \
    "to4.ok.example=2002:a00:1::1;carrier.ok.example=100.64.0.1;unique.ok.example=fd00::1;" \
    "meta.ok.example=169.254.169.254;metamix.ok.example=93.184.216.34,fd00:ec2::254;"       \
    "reserved.ok.example=240.0.0.1;link.ok.example=fe80::1;zero.ok.example=0.0.0.0"

TEST(host_and_port_have_to_be_listed)
{
    struct fixture f;
    bool made = fixture_init(&f, "ok.example, OTHER.example:8443, *.ok.example", PUBLIC_NAMES);
    CHECK(made);
    CHECK(passes(&f, "https://ok.example/b/k"));
    CHECK(passes(&f, "http://ok.example"));
    CHECK(passes(&f, "https://OK.EXAMPLE:443"));
    CHECK(passes(&f, "https://a.ok.example"));
    CHECK(passes(&f, "https://b.a.ok.example"));
    CHECK(!passes(&f, "https://ok.example:22"));
    CHECK(!passes(&f, "https://other.example"));
    CHECK(!passes(&f, "https://ok.example.evil.com"));
    CHECK(!passes(&f, "https://evilok.example"));
    CHECK(!passes(&f, "https://93.184.216.34"));
    CHECK(!passes(&f, "https://ok.example@evil.com"));
    CHECK_U64(f.err.kind, ERR_FORBIDDEN);
    fixture_finish(&f);
}

TEST(a_refusal_says_what_to_add_and_asks_nobody)
{
    struct fixture f;
    bool made = fixture_init(&f, "none", "evil.example=10.9.8.7");
    CHECK(made);
    CHECK(!passes(&f, "http://evil.example:9000"));
    CHECK_U64(f.err.kind, ERR_FORBIDDEN);
    CHECK(strstr(f.err.message, "evil.example:9000") != NULL);
    CHECK(strstr(f.err.message, "EIDER_ALLOWED_ENDPOINTS") != NULL);
    CHECK_U64(atomic_load(&f.names.asked), 0);
    fixture_finish(&f);
}

TEST(names_that_lead_inside_are_refused)
{
    static const char *const hosts[] = {"mixed",   "private", "loop",    "six",     "nat",
                                        "four",    "to4",     "carrier", "unique",  "meta",
                                        "metamix", "link",    "zero",    "reserved"};
    struct fixture f;
    bool made = fixture_init(&f, "*.ok.example", PUBLIC_NAMES);
    CHECK(made);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        char url[64];
        (void)snprintf(url, sizeof(url), "https://%s.ok.example", hosts[i]);
        if (passes(&f, url) || f.err.kind != ERR_FORBIDDEN) {
            TEST_FAIL("%s", hosts[i]);
        }
        if (strstr(f.err.message, "10.0.0.1") != NULL) {
            TEST_FAIL("the client is told: %s", f.err.message);
        }
    }
    CHECK(passes(&f, "https://a.ok.example"));
    fixture_finish(&f);
}

TEST(listed_networks_open_what_is_inside_and_no_metadata)
{
    struct fixture f;
    bool made = fixture_init(&f, "*.ok.example, 10.0.0.0/8, ::/0, 0.0.0.0/1", PUBLIC_NAMES);
    CHECK(made);
    CHECK(passes(&f, "https://mixed.ok.example"));
    CHECK(passes(&f, "https://private.ok.example"));
    CHECK(passes(&f, "http://10.200.0.1:9000"));
    CHECK(passes(&f, "https://four.ok.example"));
    CHECK(passes(&f, "https://unique.ok.example"));
    CHECK(passes(&f, "http://[::ffff:10.0.0.1]:9000"));
    CHECK(!passes(&f, "http://192.168.0.1:9000"));
    CHECK(!passes(&f, "https://meta.ok.example"));
    CHECK(!passes(&f, "https://metamix.ok.example"));
    CHECK(!passes(&f, "http://[fd00:ec2::254]"));
    CHECK(!passes(&f, "http://[fe80::1]"));
    CHECK(!passes(&f, "http://0.0.0.0"));
    CHECK(!passes(&f, "http://[::]"));
    fixture_finish(&f);
}

TEST(loopback_is_listed_by_any_of_its_names)
{
    static const char *const lists[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < COUNT_OF(lists); i++) {
        struct fixture f;
        bool made = fixture_init(&f, lists[i], "localhost=127.0.0.1,::1");
        CHECK(made);
        CHECK(passes(&f, "http://localhost:9000"));
        CHECK(passes(&f, "http://127.0.0.1:9000"));
        CHECK(passes(&f, "http://[::1]:9000"));
        CHECK(!passes(&f, "http://10.0.0.1:9000"));
        fixture_finish(&f);
    }
    struct fixture f;
    bool made = fixture_init(&f, "localhost:9000", "localhost=127.0.0.1,::1");
    CHECK(made);
    CHECK(passes(&f, "http://localhost:9000"));
    CHECK(!passes(&f, "http://localhost:9001"));
    CHECK(!passes(&f, "http://127.0.0.1:9001"));
    fixture_finish(&f);
}

TEST(the_address_connected_to_is_the_one_that_was_checked)
{
    struct fixture f;
    bool made = fixture_init(&f, NULL, "store.invalid=127.0.0.1");
    CHECK(made);
    char list[64];
    (void)snprintf(list, sizeof(list), "store.invalid:%u,127.0.0.1", f.port);
    CHECK(net_allow_endpoints(f.net, str_of(list), &f.err));
    /* Nobody else knows this name: without the pin it would not be found. */
    CHECK_U64(ask(&f, "store.invalid", false), ERR_STORE);
    CHECK(was_called(&f));
    CHECK_U64(atomic_load(&f.names.asked), 1);
    /* A second answer is not asked for while the first is fresh, so that it cannot differ. */
    f.names.table = "store.invalid=10.0.0.1";
    CHECK_U64(ask(&f, "store.invalid", false), ERR_STORE);
    CHECK(was_called(&f));
    CHECK_U64(atomic_load(&f.names.asked), 1);
    fixture_finish(&f);
}

TEST(refused_requests_send_nothing)
{
    struct fixture f;
    bool made =
        fixture_init(&f, NULL, "rebound.invalid=127.0.0.1;mixed.invalid=93.184.216.34,127.0.0.1");
    CHECK(made);
    char list[100];
    (void)snprintf(list, sizeof(list), "rebound.invalid:%u,mixed.invalid:%u", f.port, f.port);
    CHECK(net_allow_endpoints(f.net, str_of(list), &f.err));
    CHECK_U64(ask(&f, "rebound.invalid", false), ERR_FORBIDDEN);
    CHECK_U64(ask(&f, "mixed.invalid", false), ERR_FORBIDDEN);
    CHECK_U64(ask(&f, "127.0.0.1", false), ERR_FORBIDDEN);
    CHECK_U64(ask(&f, "localhost", false), ERR_FORBIDDEN);
    CHECK(!was_called(&f));
    fixture_finish(&f);
}

TEST(the_servers_own_store_needs_no_entry)
{
    struct fixture f;
    bool made = fixture_init(&f, "none", "");
    CHECK(made);
    CHECK_U64(ask(&f, "127.0.0.1", true), ERR_STORE);
    CHECK(was_called(&f));
    CHECK_U64(ask(&f, "127.0.0.1", false), ERR_FORBIDDEN);
    CHECK(!was_called(&f));
    CHECK_U64(ask(&f, "169.254.169.254", true), ERR_FORBIDDEN);
    fixture_finish(&f);
}

TEST(sockets_are_checked_again)
{
    struct fixture f;
    bool made = fixture_init(&f, "ok.example", "");
    CHECK(made);
    struct net_rules *rules = net_guard_hold_rules(&f.net->guard);
    const struct net_pass pass = {.port = 443, .rules = rules};
    const struct net_pass own = {.port = 443, .own = true, .rules = rules};
    struct sockaddr_in address = {.sin_family = AF_INET};
    CHECK(inet_pton(AF_INET, "10.0.0.1", &address.sin_addr) == 1);
    CHECK(!net_guard_permits(&pass, (struct sockaddr *)&address));
    CHECK(net_guard_permits(&own, (struct sockaddr *)&address));
    CHECK(inet_pton(AF_INET, "93.184.216.34", &address.sin_addr) == 1);
    CHECK(net_guard_permits(&pass, (struct sockaddr *)&address));
    CHECK(inet_pton(AF_INET, "169.254.169.254", &address.sin_addr) == 1);
    CHECK(!net_guard_permits(&own, (struct sockaddr *)&address));
    net_guard_drop_rules(&f.net->guard, rules);
    fixture_finish(&f);
}

TEST(another_list_takes_the_place_of_the_first)
{
    struct fixture f;
    bool made = fixture_init(&f, "ok.example", "ok.example=93.184.216.34");
    CHECK(made);
    struct net_rules *before = net_guard_hold_rules(&f.net->guard);
    const struct net_pass begun = {.port = 443, .rules = before};
    struct sockaddr_in address = {.sin_family = AF_INET};
    CHECK(inet_pton(AF_INET, "10.0.0.1", &address.sin_addr) == 1);
    CHECK(!net_allow_endpoints(f.net, STR("10.0.0.0/8, a b"), &f.err));
    CHECK(passes(&f, "https://ok.example"));
    CHECK(!passes(&f, "https://10.0.0.1"));
    CHECK(net_allow_endpoints(f.net, STR("10.0.0.0/8"), &f.err));
    CHECK(!passes(&f, "https://ok.example"));
    CHECK(passes(&f, "https://10.0.0.1"));
    CHECK(!net_guard_permits(&begun, (struct sockaddr *)&address));
    net_guard_drop_rules(&f.net->guard, before);
    CHECK(net_allow_endpoints(f.net, str_of(NULL), &f.err));
    CHECK(passes(&f, "https://ok.example"));
    fixture_finish(&f);
}

/* A kept connection leads where the list of its time let it go. */
TEST(connections_are_reused_under_their_list_only)
{
    struct fixture f;
    bool made = fixture_init(&f, NULL, "");
    CHECK(made);
    struct net_connection first;
    struct net_connection second;
    CHECK(net_shelf_take(&f.net->shelf, "http://a:1", 1, &first));
    CURLM *multi = first.multi;
    net_shelf_return(&f.net->shelf, &first);
    CHECK(net_shelf_take(&f.net->shelf, "http://a:1", 2, &second));
    CHECK(second.multi != multi);
    CHECK(net_shelf_take(&f.net->shelf, "http://a:1", 1, &first));
    CHECK(first.multi == multi);
    net_shelf_return(&f.net->shelf, &first);
    net_shelf_return(&f.net->shelf, &second);
    fixture_finish(&f);
}

TEST(without_a_list_only_the_forbidden_addresses_are_closed)
{
    struct fixture f;
    bool made = fixture_init(&f, NULL, "");
    CHECK(made);
    CHECK(passes(&f, "http://127.0.0.1:9000"));
    CHECK(passes(&f, "http://minio:9000"));
    CHECK(!passes(&f, "http://169.254.169.254"));
    CHECK(!passes(&f, "http://2852039166"));
    CHECK(!passes(&f, "http://0xA9FEA9FE"));
    CHECK(!passes(&f, "http://0251.0376.0251.0376"));
    CHECK(!passes(&f, "http://[::ffff:169.254.169.254]"));
    CHECK(!passes(&f, "http://[64:ff9b::a9fe:a9fe]"));
    CHECK_U64(atomic_load(&f.names.asked), 0);
    fixture_finish(&f);
}

static bool hang(void *context, const char *host, struct net_answer *ret_answer)
{
    (void)host;
    (void)ret_answer;
    char byte;
    (void)!read(*(const int *)context, &byte, 1);
    return false;
}

TEST(a_resolver_that_hangs_holds_nobody)
{
    static int ends[2]; /* which the look-ups may read after the test */
    CHECK(pipe(ends) == 0);
    struct net_resolver *resolver = net_resolver_create(hang, &ends[0]);
    struct net_answer answer;
    struct err err;
    int64_t begin_ms = clock_now_ms();
    CHECK(!net_resolver_ask(resolver, "x", begin_ms + 30, NULL, &answer, &err));
    CHECK_U64(err.kind, ERR_STORE);
    struct cancel cancel;
    cancel_init(&cancel, INT64_MAX);
    cancel_raise(&cancel, ERR_CANCELLED);
    CHECK(!net_resolver_ask(resolver, "x", begin_ms + 60000, &cancel, &answer, &err));
    CHECK_U64(err.kind, ERR_CANCELLED);
    CHECK(clock_now_ms() < begin_ms + 30000);
    cancel_finish(&cancel);
    net_resolver_destroy(resolver); /* the two look-ups hold what they need */
    (void)close(ends[1]); /* ends them; what they read from stays open, since they still may */
}

static const struct test_case cases[] = {
    TEST_CASE(lists_that_are_well_formed),
    TEST_CASE(lists_that_are_not),
    TEST_CASE(host_and_port_have_to_be_listed),
    TEST_CASE(a_refusal_says_what_to_add_and_asks_nobody),
    TEST_CASE(names_that_lead_inside_are_refused),
    TEST_CASE(listed_networks_open_what_is_inside_and_no_metadata),
    TEST_CASE(loopback_is_listed_by_any_of_its_names),
    TEST_CASE(the_address_connected_to_is_the_one_that_was_checked),
    TEST_CASE(refused_requests_send_nothing),
    TEST_CASE(the_servers_own_store_needs_no_entry),
    TEST_CASE(sockets_are_checked_again),
    TEST_CASE(another_list_takes_the_place_of_the_first),
    TEST_CASE(connections_are_reused_under_their_list_only),
    TEST_CASE(without_a_list_only_the_forbidden_addresses_are_closed),
    TEST_CASE(a_resolver_that_hangs_holds_nobody),
};
TEST_MAIN(cases)
