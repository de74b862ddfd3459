/* The list of allowed endpoints: reading it, and asking it about a host and about an address. */
#include "net_internal.h"

#include "mem.h"
#include "num.h"

#include <stdio.h>

/* --- asking --- */

static bool port_matches(const struct net_entry *entry, unsigned port)
{
    if (entry->port != 0) {
        return entry->port == port;
    }
    return entry->kind == NET_ENTRY_NETWORK || entry->any_port || port == 80 || port == 443;
}

/* `*.example.com` stands for names below example.com, not for that name itself. */
static bool name_matches(const struct net_entry *entry, struct str host)
{
    struct str name = str_of(entry->name);
    if (entry->kind == NET_ENTRY_HOST) {
        return str_equal_nocase(host, name);
    }
    return host.len > name.len + 1 && host.ptr[host.len - name.len - 1] == '.' &&
           str_equal_nocase(str_from(host, host.len - name.len), name);
}

bool net_rules_list_host(const struct net_rules *rules, struct str host, unsigned port)
{
    for (size_t i = 0; i < rules->count; i++) {
        const struct net_entry *entry = &rules->entries[i];
        if (entry->kind != NET_ENTRY_NETWORK && port_matches(entry, port) &&
            name_matches(entry, host)) {
            return true;
        }
    }
    return false;
}

bool net_rules_list_address(const struct net_rules *rules, const struct net_address *address,
                            unsigned port)
{
    bool v4 = net_address_is_v4(address); /* which ::/0 is not meant to cover */
    for (size_t i = 0; i < rules->count; i++) {
        const struct net_entry *entry = &rules->entries[i];
        if (entry->kind == NET_ENTRY_NETWORK && net_address_is_v4(&entry->network) == v4 &&
            port_matches(entry, port) &&
            net_address_within(address, &entry->network, entry->prefix)) {
            return true;
        }
    }
    return false;
}

/* --- reading --- */

static void add_entry(struct net_rules *rules, struct net_entry entry)
{
    struct net_entry *longer = mem_alloc_array(rules->count + 1, sizeof(*longer));
    if (rules->count > 0) {
        memcpy(longer, rules->entries, rules->count * sizeof(*longer));
    }
    longer[rules->count++] = entry;
    mem_free(rules->entries);
    rules->entries = longer;
}

static bool add_network(struct net_rules *rules, const struct net_address *network, unsigned prefix,
                        unsigned port, struct str text, struct err *err)
{
    /* A wide network may contain addresses that stay closed; one that begins with them is a
     * mistake, or an attempt. */
    bool narrow = prefix >= (net_address_is_v4(network) ? 96 + 4 : 8);
    if (narrow && !net_address_allowed(network)) {
        return err_set(err, ERR_INVALID,
                       "'%.*s': link-local, metadata, multicast and unspecified addresses are "
                       "never contacted and cannot be listed",
                       STR_ARG(text));
    }
    add_entry(rules,
              (struct net_entry){
                  .kind = NET_ENTRY_NETWORK, .network = *network, .prefix = prefix, .port = port});
    return true;
}

/* `localhost` and each loopback address stand for all of loopback: which of its addresses a name
 * leads to is nobody's choice. */
static void add_loopback(struct net_rules *rules, unsigned port)
{
    static const struct net_address v4 = {.bytes = {[10] = 0xff, [11] = 0xff, [12] = 127}};
    static const struct net_address v6 = {.bytes = {[15] = 1}};
    add_entry(rules, (struct net_entry){.kind = NET_ENTRY_HOST,
                                        .name = mem_copy_text("localhost"),
                                        .port = port,
                                        .any_port = true});
    add_entry(rules, (struct net_entry){
                         .kind = NET_ENTRY_NETWORK, .network = v4, .prefix = 96 + 8, .port = port});
    add_entry(rules, (struct net_entry){
                         .kind = NET_ENTRY_NETWORK, .network = v6, .prefix = 128, .port = port});
}

static bool is_loopback(const struct net_address *address)
{
    static const struct net_address v6 = {.bytes = {[15] = 1}};
    return (net_address_is_v4(address) && address->bytes[12] == 127) ||
           memcmp(address, &v6, sizeof(v6)) == 0;
}

static bool parse_address(struct str text, struct net_address *ret_address)
{
    char copy[NET_ADDRESS_TEXT_SIZE];
    bool bracketed = text.len > 2 && text.ptr[0] == '[' && text.ptr[text.len - 1] == ']';
    text = bracketed ? str_make(text.ptr + 1, text.len - 2) : text;
    if (text.len >= sizeof(copy)) {
        return false;
    }
    (void)snprintf(copy, sizeof(copy), "%.*s", STR_ARG(text));
    return strlen(copy) == text.len && net_address_parse(copy, ret_address) &&
           (!bracketed || str_find_byte(text, ':') < text.len);
}

/* 10.0.0.0/8, fd00::/8 */
static bool read_network(struct net_rules *rules, struct str text, struct err *err)
{
    size_t slash = str_find_byte(text, '/');
    struct net_address network;
    struct err ignored;
    uint64_t prefix = 0;
    if (!parse_address(str_first(text, slash), &network)) {
        return err_set(err, ERR_INVALID,
                       "'%.*s' is neither a network (10.0.0.0/8) nor host:port without a scheme "
                       "and a path",
                       STR_ARG(text));
    }
    bool v4 = net_address_is_v4(&network);
    if (!num_parse_u64(str_from(text, slash + 1), 0, v4 ? 32 : 128, &prefix, &ignored)) {
        return err_set(err, ERR_INVALID, "'%.*s': the prefix of a network is 0 to %d",
                       STR_ARG(text), v4 ? 32 : 128);
    }
    unsigned bits = (unsigned)prefix + (v4 ? 96 : 0);
    for (unsigned bit = bits; bit < 128; bit++) {
        if ((network.bytes[bit / 8] & (0x80U >> bit % 8)) != 0) {
            return err_set(err, ERR_INVALID, "'%.*s' has bits set beyond its prefix",
                           STR_ARG(text));
        }
    }
    return add_network(rules, &network, bits, 0, text, err);
}

/* The last label decides: with digits alone, or with 0x in front, resolvers take the whole for an
 * IPv4 address in some old spelling. */
static bool ends_in_number(struct str name)
{
    size_t begin = name.len;
    while (begin > 0 && name.ptr[begin - 1] != '.') {
        begin--;
    }
    struct str label = str_from(name, begin);
    bool digits = label.len > 0;
    for (size_t i = 0; i < label.len; i++) {
        digits = digits && label.ptr[i] >= '0' && label.ptr[i] <= '9';
    }
    return digits || str_starts_nocase(label, STR("0x"));
}

static bool is_host_name(struct str name)
{
    bool good = name.len > 0 && name.len <= 253 && !ends_in_number(name);
    char before = '.';
    for (size_t i = 0; good && i < name.len; i++) {
        char byte = name.ptr[i];
        char lower = (char)(byte | 0x20);
        bool letter = (lower >= 'a' && lower <= 'z') || (byte >= '0' && byte <= '9');
        good = letter || byte == '-' || byte == '_' || (byte == '.' && before != '.');
        before = byte;
    }
    return good && before != '.';
}

bool net_host_usable(struct str host)
{
    struct net_address ignored;
    bool bracketed = host.len > 0 && host.ptr[0] == '[';
    bool v6 = str_find_byte(host, ':') < host.len;
    return bracketed == v6 && (parse_address(host, &ignored) || (!v6 && is_host_name(host)));
}

static bool add_host(struct net_rules *rules, struct str host, unsigned port, struct str text,
                     struct err *err)
{
    struct net_address address;
    if (parse_address(host, &address)) {
        if (is_loopback(&address)) {
            add_loopback(rules, port);
            return true;
        }
        return add_network(rules, &address, 128, port, text, err);
    }
    bool suffix = str_starts(host, STR("*."));
    struct str name = suffix ? str_from(host, 2) : host;
    if (!is_host_name(name)) {
        return err_set(err, ERR_INVALID,
                       "'%.*s' is none of host, host:port, *.suffix, address, network",
                       STR_ARG(text));
    }
    if (str_equal_nocase(host, STR("localhost"))) {
        add_loopback(rules, port);
        return true;
    }
    add_entry(rules, (struct net_entry){.kind = suffix ? NET_ENTRY_SUFFIX : NET_ENTRY_HOST,
                                        .name = mem_copy_bytes(name.ptr, name.len),
                                        .port = port});
    return true;
}

static bool read_entry(struct net_rules *rules, struct str text, struct err *err)
{
    struct net_address ignored_address;
    if (text.len == 0) {
        return err_set(err, ERR_INVALID, "an entry of the list is empty");
    }
    if (str_find_byte(text, '/') < text.len) {
        return read_network(rules, text, err);
    }
    size_t bracket = text.ptr[0] == '[' ? str_find_byte(text, ']') : 0;
    size_t colon = bracket + str_find_byte(str_from(text, bracket), ':');
    /* An IPv6 address may stand without brackets where no port follows. */
    if (colon == text.len || parse_address(text, &ignored_address)) {
        return add_host(rules, text, 0, text, err);
    }
    struct err ignored;
    uint64_t port = 0;
    if (!num_parse_u64(str_from(text, colon + 1), 1, 65535, &port, &ignored)) {
        return err_set(err, ERR_INVALID, "'%.*s' has no usable port", STR_ARG(text));
    }
    return add_host(rules, str_first(text, colon), (unsigned)port, text, err);
}

bool net_rules_read(struct net_rules *rules, struct str list, struct err *err)
{
    *rules = (struct net_rules){.listed = true};
    if (str_equal(str_trim(list), STR("none"))) {
        return true;
    }
    struct str entry;
    bool good = list.len > 0 ||
                err_set(err, ERR_INVALID, "the list is empty; write `none` to allow no endpoint");
    while (good && str_next_part(&list, ',', &entry)) {
        good = read_entry(rules, str_trim(entry), err);
    }
    if (!good) {
        net_rules_finish(rules);
    }
    return good;
}

void net_rules_finish(struct net_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        mem_free(rules->entries[i].name);
    }
    mem_free(rules->entries);
    *rules = (struct net_rules){0};
}
