/* Which addresses may be contacted, and how retries are paid for. */
#include "test.h"

#include "net_internal.h"

static bool allowed(const char *text)
{
    struct net_address address;
    return net_address_parse(text, &address) && net_address_allowed(&address);
}

TEST(stores_live_on_loopback_private_and_public_addresses)
{
    CHECK(allowed("127.0.0.1"));
    CHECK(allowed("10.1.2.3"));
    CHECK(allowed("8.8.8.8"));
    CHECK(allowed("::1"));
    CHECK(allowed("fd00::1"));
    CHECK(allowed("::ffff:10.0.0.1"));
}

TEST(link_local_metadata_and_multicast_are_refused)
{
    CHECK(!allowed("169.254.169.254"));
    CHECK(!allowed("::ffff:169.254.169.254"));
    CHECK(!allowed("fe80::1"));
    CHECK(!allowed("fd00:ec2::254"));
    CHECK(!allowed("224.0.0.1"));
    CHECK(!allowed("255.255.255.255"));
    CHECK(!allowed("ff02::1"));
    CHECK(!allowed("0.0.0.0"));
    CHECK(!allowed("::"));
    CHECK(!allowed("100.100.100.200"));
    CHECK(!allowed("64:ff9b::a9fe:a9fe"));
    CHECK(!allowed("64:ff9b:1::a9fe:a9fe"));
    CHECK(!allowed("2002:a9fe:a9fe::1"));
    CHECK(!allowed("::a9fe:a9fe"));
}

TEST(retries_end_when_the_budget_is_spent)
{
    struct net_budgets budgets;
    net_budgets_init(&budgets);
    size_t taken = 0;
    while (taken < 1000 && net_budgets_take(&budgets, STR("a"), 1000)) {
        taken++;
    }
    bool other = net_budgets_take(&budgets, STR("b"), 1000);
    bool too_soon = net_budgets_take(&budgets, STR("a"), 1400);
    bool after_time = net_budgets_take(&budgets, STR("a"), 1500);
    bool spent = net_budgets_take(&budgets, STR("a"), 1500);
    for (int i = 0; i < NET_BUDGET_RETRY_COST; i++) {
        net_budgets_return(&budgets, STR("a"), 1500);
    }
    bool after_success = net_budgets_take(&budgets, STR("a"), 1500);
    net_budgets_finish(&budgets);
    CHECK_U64(taken, NET_BUDGET_TOKENS_MAX / NET_BUDGET_RETRY_COST);
    CHECK(other);
    CHECK(!too_soon);
    CHECK(after_time);
    CHECK(!spent);
    CHECK(after_success);
}

TEST(more_endpoints_than_rows_are_served)
{
    struct net_budgets budgets;
    net_budgets_init(&budgets);
    bool good = true;
    for (int i = 0; i < 3 * NET_BUDGET_ROWS; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "endpoint %d", i);
        good = good && net_budgets_take(&budgets, str_of(name), 1000 + i);
    }
    net_budgets_finish(&budgets);
    CHECK(good);
}

static const struct test_case cases[] = {
    TEST_CASE(stores_live_on_loopback_private_and_public_addresses),
    TEST_CASE(link_local_metadata_and_multicast_are_refused),
    TEST_CASE(retries_end_when_the_budget_is_spent),
    TEST_CASE(more_endpoints_than_rows_are_served),
};
TEST_MAIN(cases)
