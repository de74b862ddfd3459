/* Where a bucket is asked for: its name in the path, or in front of the endpoint's host. */
#include "store_s3.h"

#include "mem.h"
#include "num.h"

#include <arpa/inet.h>
#include <stdio.h>

static char *copy(struct str text)
{
    return mem_copy_bytes(text.len == 0 ? "" : text.ptr, text.len);
}

static bool is_host_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || byte == '-';
}

static bool is_address(struct str host)
{
    struct in_addr v4;
    char text[64];
    (void)snprintf(text, sizeof(text), "%.*s", STR_ARG(host));
    return (host.len > 0 && host.ptr[0] == '[') || inet_pton(AF_INET, text, &v4) == 1;
}

bool store_fits_host(struct str bucket, const struct store_endpoint *parts)
{
    bool secure = str_equal_nocase(parts->scheme, STR("https"));
    bool fits = bucket.len <= 63 && !is_address(parts->host);
    for (size_t i = 0; fits && i < bucket.len; i++) {
        fits = is_host_byte(bucket.ptr[i]) || (bucket.ptr[i] == '.' && !secure);
    }
    return fits;
}

static void append_lower(struct buf *buf, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char byte = text.ptr[i];
        buf_append_byte(buf, byte >= 'A' && byte <= 'Z' ? (char)(byte | 0x20) : byte);
    }
}

/* The port is left out when it is the scheme's own, as the HTTP client leaves it out of the Host
 * header. */
static void append_host(struct buf *buf, const struct store_s3_options *options,
                        const struct store_endpoint *parts, bool in_host)
{
    struct err ignored = {0};
    uint64_t port = 0;
    bool secure = str_equal_nocase(parts->scheme, STR("https"));
    if (in_host) {
        buf_append(buf, options->bucket);
        buf_append_byte(buf, '.');
    }
    append_lower(buf, parts->host);
    if (parts->port.len > 0 && num_parse_u64(parts->port, 1, 65535, &port, &ignored) &&
        port != (secure ? 443 : 80)) {
        buf_append_format(buf, ":%u", (unsigned)port);
    }
}

void s3_set_addresses(struct store_s3 *s3, const struct store_s3_options *options,
                      const struct store_endpoint *parts)
{
    enum {
        ADDRESS_LEN_MAX = 2048
    };
    bool in_host = options->virtual_hosted && store_fits_host(options->bucket, parts);
    CLEANUP(buf_finish) struct buf host;
    CLEANUP(buf_finish) struct buf text;
    buf_init(&host, ADDRESS_LEN_MAX);
    buf_init(&text, ADDRESS_LEN_MAX);
    append_host(&host, options, parts, in_host);
    append_lower(&text, parts->scheme);
    buf_append_text(&text, "://");
    buf_append(&text, buf_str(&host));
    s3->host = copy(buf_str(&host));
    s3->endpoint_host = copy(parts->host);
    s3->origin = copy(buf_str(&text));

    buf_reset(&text);
    buf_append_byte(&text, '/');
    if (!in_host) {
        buf_append(&text, options->bucket);
        buf_append_byte(&text, '/');
    }
    s3->path_prefix = copy(buf_str(&text));

    /* A budget belongs to one caller at one endpoint: one that is throttled does not slow the
     * others. */
    buf_reset(&text);
    buf_append_format(&text, "%s %.*s", s3->origin, STR_ARG(options->access_key));
    s3->budget_name = copy(buf_str(&text));
    assert(!buf_failed(&host));
    assert(!buf_failed(&text));
}
