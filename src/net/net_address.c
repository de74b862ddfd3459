/* Addresses in one form, and the two questions about them: may anybody ever go there, and is it a
 * public one. IPv4 is kept as ::ffff:a.b.c.d. */
#include "net_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
           (uint32_t)bytes[3];
}

struct net_address net_address_of_v4(const void *four_bytes)
{
    struct net_address address;
    memcpy(address.bytes, mapped_prefix, sizeof(mapped_prefix));
    memcpy(address.bytes + 12, four_bytes, 4);
    return address;
}

bool net_address_is_v4(const struct net_address *address)
{
    return memcmp(address->bytes, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

bool net_address_read(const struct sockaddr *from, struct net_address *ret_address)
{
    /* Copies, because a generic address need not be aligned for the particular type. */
    if (from->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, from, sizeof(v4));
        *ret_address = net_address_of_v4(&v4.sin_addr);
        return true;
    }
    if (from->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, from, sizeof(v6));
        memcpy(ret_address->bytes, &v6.sin6_addr, sizeof(ret_address->bytes));
        return true;
    }
    return false;
}

bool net_address_parse(const char *text, struct net_address *ret_address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        *ret_address = net_address_of_v4(&v4);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1) {
        memcpy(ret_address->bytes, &v6, sizeof(ret_address->bytes));
        return true;
    }
    return false;
}

void net_address_format(const struct net_address *address, char text[static NET_ADDRESS_TEXT_SIZE])
{
    bool v4 = net_address_is_v4(address);
    (void)inet_ntop(v4 ? AF_INET : AF_INET6, address->bytes + (v4 ? 12 : 0), text,
                    NET_ADDRESS_TEXT_SIZE);
}

bool net_address_within(const struct net_address *address, const struct net_address *network,
                        unsigned prefix)
{
    assert(prefix <= 128);
    unsigned whole = prefix / 8;
    unsigned rest = prefix % 8;
    if (memcmp(address->bytes, network->bytes, whole) != 0) {
        return false;
    }
    uint8_t mask = (uint8_t)(0xff00U >> rest);
    return rest == 0 || ((address->bytes[whole] ^ network->bytes[whole]) & mask) == 0;
}

/* --- tables --- */

struct range_v4 {
    uint32_t base;
    unsigned prefix;
};

static bool in_ranges(uint32_t value, const struct range_v4 *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t mask = ranges[i].prefix == 0 ? 0 : UINT32_MAX << (32 - ranges[i].prefix);
        if ((value & mask) == ranges[i].base) {
            return true;
        }
    }
    return false;
}

/* clang-format off */
/* Where no store is, ever. 0.0.0.0 is another name of loopback to this kernel, and no address of
 * anything. The single ones are metadata services of clouds outside the link-local range. */
static const struct range_v4 never_v4[] = {
    { 0x00000000,  8 }, /* 0.0.0.0/8 */
    { 0xa9fe0000, 16 }, /* 169.254.0.0/16, link-local */
    { 0xe0000000,  4 }, /* 224.0.0.0/4, multicast */
    { 0xffffffff, 32 }, /* broadcast */
    { 0x646464c8, 32 }, /* 100.100.100.200 */
    { 0xc00000c0, 32 }, /* 192.0.0.192 */
    { 0xa83f8110, 32 }, /* 168.63.129.16 */
};

/* Beside those: what is not reached through the public internet (IANA's special-purpose table). */
static const struct range_v4 private_v4[] = {
    { 0x0a000000,  8 }, /* 10.0.0.0/8 */
    { 0x64400000, 10 }, /* 100.64.0.0/10, carriers */
    { 0x7f000000,  8 }, /* 127.0.0.0/8, loopback */
    { 0xac100000, 12 }, /* 172.16.0.0/12 */
    { 0xc0000000, 24 }, /* 192.0.0.0/24, protocols */
    { 0xc0000200, 24 }, /* 192.0.2.0/24, documentation */
    { 0xc0586300, 24 }, /* 192.88.99.0/24, 6to4 relays */
    { 0xc0a80000, 16 }, /* 192.168.0.0/16 */
    { 0xc6120000, 15 }, /* 198.18.0.0/15, benchmarks */
    { 0xc6336400, 24 }, /* 198.51.100.0/24, documentation */
    { 0xcb007100, 24 }, /* 203.0.113.0/24, documentation */
    { 0xf0000000,  4 }, /* 240.0.0.0/4, reserved */
};
/* By their first four bytes: within 2000::/3, all else of IPv6 is not public anyhow. */
static const struct range_v4 private_v6[] = {
    { 0x20010000, 23 }, /* 2001::/23, protocols, Teredo among them */
    { 0x20010db8, 32 }, /* 2001:db8::/32, documentation */
    { 0x20020000, 16 }, /* 2002::/16, 6to4 */
    { 0x3fff0000, 20 }, /* 3fff::/20, documentation */
};
/* clang-format on */

/* The IPv4 address that a router takes out of this one: mapped and compatible ones, NAT64 with the
 * well-known and the local prefix, 6to4. */
static bool embedded_v4(const struct net_address *address, uint32_t *ret_value)
{
    static const uint8_t zeroes[12] = {0};
    static const uint8_t nat64[4] = {0x00, 0x64, 0xff, 0x9b};
    const uint8_t *bytes = address->bytes;
    if (bytes[0] == 0x20 && bytes[1] == 0x02) {
        *ret_value = read_u32(bytes + 2);
        return true;
    }
    *ret_value = read_u32(bytes + 12);
    bool compatible = memcmp(bytes, zeroes, sizeof(zeroes)) == 0 && *ret_value > 1;
    return compatible || net_address_is_v4(address) || memcmp(bytes, nat64, sizeof(nat64)) == 0;
}

bool net_address_allowed(const struct net_address *address)
{
    /* Metadata services with unique local addresses: fd00:ec2::254, fd20:ce::254. */
    static const struct net_address metadata[] = {
        {.bytes = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}},
        {.bytes = {0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54}},
    };
    static const struct net_address unspecified = {.bytes = {0}};
    const uint8_t *bytes = address->bytes;
    uint32_t v4;
    if (embedded_v4(address, &v4) && in_ranges(v4, never_v4, COUNT_OF(never_v4))) {
        return false;
    }
    for (size_t i = 0; i < COUNT_OF(metadata); i++) {
        if (memcmp(bytes, metadata[i].bytes, sizeof(metadata[i].bytes)) == 0) {
            return false;
        }
    }
    bool link_local = bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80;
    bool multicast = bytes[0] == 0xff;
    return !link_local && !multicast &&
           memcmp(bytes, unspecified.bytes, sizeof(unspecified.bytes)) != 0;
}

bool net_address_public(const struct net_address *address)
{
    if (!net_address_allowed(address)) {
        return false;
    }
    if (net_address_is_v4(address)) {
        return !in_ranges(read_u32(address->bytes + 12), private_v4, COUNT_OF(private_v4));
    }
    bool unicast = (address->bytes[0] & 0xe0) == 0x20;
    return unicast && !in_ranges(read_u32(address->bytes), private_v6, COUNT_OF(private_v6));
}
