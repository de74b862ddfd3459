#include "net_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static bool allow_v4(uint32_t address)
{
    bool link_local = (address >> 16) == 0xa9fe; /* 169.254.0.0/16 */
    bool multicast = (address >> 28) == 0xe;     /* 224.0.0.0/4 */
    bool broadcast = address == 0xffffffff;
    return !link_local && !multicast && !broadcast;
}

static bool allow_v6(const struct in6_addr *address)
{
    /* The metadata service of one cloud has a unique local address: fd00:ec2::254. */
    static const struct in6_addr metadata = {
        .s6_addr = {0xfd, 0x00, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54}};
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        const uint8_t *last = address->s6_addr + 12;
        return allow_v4((uint32_t)last[0] << 24 | (uint32_t)last[1] << 16 | (uint32_t)last[2] << 8 |
                        (uint32_t)last[3]);
    }
    return !IN6_IS_ADDR_LINKLOCAL(address) && !IN6_IS_ADDR_MULTICAST(address) &&
           memcmp(address, &metadata, sizeof(metadata)) != 0;
}

bool net_address_allowed(const struct sockaddr *address)
{
    /* Copies, because a generic address need not be aligned for the particular type. */
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof(v4));
        return allow_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof(v6));
        return allow_v6(&v6.sin6_addr);
    }
    return false;
}
