/* Listing, page by page. Keys are asked for in URL encoding, since XML cannot carry every byte. */
#include "store_s3.h"
#include "store_xml.h"

#include "num.h"

enum {
    TEXT_LEN_MAX = 8192
};

struct page {
    struct str prefix;
    bool folders; /* CommonPrefixes are wanted, not Contents */
    store_visit_fn *visit;
    void *context;
    bool encoded;
    bool truncated;
    bool key_good;
    struct buf key; /* of the element that is being read, as sent */
    struct buf decoded;
    struct buf token;
    struct store_object object;
};

static void set_text(struct buf *buf, struct str text)
{
    buf_reset(buf);
    buf_append(buf, text);
}

/* With the quotes that HEAD shows; a few stores leave them out of lists. */
static void set_listed_etag(struct store_object *object, struct str etag)
{
    bool quoted = str_starts(etag, STR("\"")) || str_starts(etag, STR("W/"));
    size_t needed = etag.len + (quoted ? 0 : 2);
    size_t at = 0;
    if (etag.len == 0 || needed >= sizeof(object->etag)) {
        object->etag[0] = '\0';
        return;
    }
    if (!quoted) {
        object->etag[at++] = '"';
    }
    memcpy(object->etag + at, etag.ptr, etag.len);
    at += etag.len;
    if (!quoted) {
        object->etag[at++] = '"';
    }
    object->etag[at] = '\0';
}

/* Shows one entry to the visitor. Keys that this interface could not be asked for, such as the
 * empty objects named "folder/" that consoles make, are passed over. */
static bool show(struct page *page, struct err *err)
{
    struct err unusable = {0};
    buf_reset(&page->decoded);
    if (page->encoded) {
        if (!store_append_decoded(&page->decoded, buf_str(&page->key))) {
            return err_set(err, ERR_STORE, "the store sent a key that cannot be decoded");
        }
    } else {
        buf_append(&page->decoded, buf_str(&page->key));
    }
    struct str key = buf_str(&page->decoded);
    if (!str_starts(key, page->prefix)) {
        return err_set(err, ERR_STORE, "the store listed a key without the prefix asked for");
    }
    if (page->folders) {
        if (key.len < page->prefix.len + 2 || key.ptr[key.len - 1] != '/') {
            return true;
        }
        struct str name = str_from(str_first(key, key.len - 1), page->prefix.len);
        return !store_check_key(name, &unusable) || page->visit(page->context, name, NULL, err);
    }
    return !store_check_key(key, &unusable) || page->visit(page->context, key, &page->object, err);
}

static bool take_entry_field(struct page *page, struct str name, struct str text, struct err *err)
{
    if (str_equal(name, STR("Key"))) {
        set_text(&page->key, text);
        page->key_good = true;
    } else if (str_equal(name, STR("ETag"))) {
        set_listed_etag(&page->object, text);
    } else if (str_equal(name, STR("Size"))) {
        return num_parse_u64(text, 0, INT64_MAX, &page->object.size, err) ||
               err_set(err, ERR_STORE, "the store listed an object without a usable size");
    }
    return true;
}

static bool finish_entry(struct page *page, struct err *err)
{
    if (!page->key_good) {
        return err_set(err, ERR_STORE, "the store listed an object without a key");
    }
    bool good = show(page, err);
    page->key_good = false;
    page->object = (struct store_object){0};
    return good;
}

/* EncodingType may come after the keys, so fetch_page looks for it in a first reading. */
static bool take_element(void *context, struct str parent, struct str name, struct str text,
                         struct err *err)
{
    struct page *page = context;
    if (str_equal(parent, STR("Contents"))) {
        return take_entry_field(page, name, text, err);
    }
    if (str_equal(parent, STR("CommonPrefixes")) && str_equal(name, STR("Prefix"))) {
        set_text(&page->key, text);
        return !page->folders || show(page, err);
    }
    if (!str_equal(parent, STR("ListBucketResult"))) {
        return true;
    }
    if (str_equal(name, STR("Contents"))) {
        return page->folders || finish_entry(page, err);
    }
    if (str_equal(name, STR("IsTruncated"))) {
        page->truncated = str_equal_nocase(str_trim(text), STR("true"));
    } else if (str_equal(name, STR("NextContinuationToken"))) {
        set_text(&page->token, text);
    }
    return true;
}

static bool take_encoding(void *context, struct str parent, struct str name, struct str text,
                          struct err *err)
{
    struct page *page = context;
    (void)err;
    if (str_equal(parent, STR("ListBucketResult")) && str_equal(name, STR("EncodingType"))) {
        page->encoded = str_equal_nocase(str_trim(text), STR("url"));
    }
    return true;
}

static bool fetch_page(struct store_s3 *s3, struct page *page, struct str token,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct s3_request request = {.method = "GET", .body_bytes_max = S3_ANSWER_BYTES_MAX};
    s3_add_query(&request, "list-type", STR("2"));
    s3_add_query(&request, "encoding-type", STR("url"));
    s3_add_query(&request, "prefix", page->prefix);
    if (page->folders) {
        s3_add_query(&request, "delimiter", STR("/"));
    }
    if (token.len > 0) {
        s3_add_query(&request, "continuation-token", token);
    }
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (response.status != 200) {
        return s3_fail(s3, "GET", (struct str){0}, &response, err);
    }
    struct str document = buf_str(&response.body);
    page->encoded = false;
    page->truncated = false;
    buf_reset(&page->token);
    return store_xml_read(document, take_encoding, page, err) &&
           store_xml_read(document, take_element, page, err);
}

static bool list_pages(struct store_s3 *s3, struct page *page, struct cancel *cancel,
                       struct err *err)
{
    CLEANUP(buf_finish) struct buf token;
    buf_init(&token, TEXT_LEN_MAX);
    do {
        if (!fetch_page(s3, page, buf_str(&token), cancel, err)) {
            return false;
        }
        if (page->truncated && (page->token.len == 0 || buf_failed(&page->token) ||
                                str_equal(buf_str(&page->token), buf_str(&token)))) {
            return err_set(err, ERR_STORE, "the store does not say how its list goes on");
        }
        set_text(&token, buf_str(&page->token));
    } while (page->truncated);
    return true;
}

static bool list_any(struct store *store, struct page *page, struct cancel *cancel, struct err *err)
{
    buf_init(&page->key, TEXT_LEN_MAX);
    buf_init(&page->decoded, TEXT_LEN_MAX);
    buf_init(&page->token, TEXT_LEN_MAX);
    bool good = list_pages((struct store_s3 *)store, page, cancel, err);
    buf_finish(&page->key);
    buf_finish(&page->decoded);
    buf_finish(&page->token);
    return good;
}

bool s3_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
             struct cancel *cancel, struct err *err)
{
    struct page page = {.prefix = prefix, .visit = visit, .context = context};
    return list_any(store, &page, cancel, err);
}

bool s3_list_folders(struct store *store, struct str prefix, bool empty_too, store_visit_fn *visit,
                     void *context, struct cancel *cancel, struct err *err)
{
    (void)empty_too; /* S3 has none */
    struct page page = {.prefix = prefix, .folders = true, .visit = visit, .context = context};
    return list_any(store, &page, cancel, err);
}
