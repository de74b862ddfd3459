/* Multipart uploads that were begun and never ended, page by page, and their end. Keys are asked
 * for in URL encoding, as in store_list.c. */
#include "store_s3.h"
#include "store_xml.h"

enum {
    TEXT_LEN_MAX = 8192
};

struct page {
    struct str prefix;
    store_visit_upload_fn *visit;
    void *context;
    bool encoded;
    bool truncated;
    struct buf key; /* of the upload that is being read, as sent; likewise the next two */
    struct buf id;
    struct buf key_marker;
    struct buf id_marker;
    struct buf decoded;
};

static void set_text(struct buf *buf, struct str text)
{
    buf_reset(buf);
    buf_append(buf, text);
}

static bool decode(struct page *page, struct str text, struct err *err)
{
    buf_reset(&page->decoded);
    if (!page->encoded) {
        buf_append(&page->decoded, text);
    } else if (!store_append_decoded(&page->decoded, text)) {
        return err_set(err, ERR_STORE, "the store sent a key that cannot be decoded");
    }
    return true;
}

/* Not every store keeps to the prefix; keys that could not be asked for are passed over. */
static bool show(struct page *page, struct err *err)
{
    struct err unusable = {0};
    if (!decode(page, buf_str(&page->key), err)) {
        return false;
    }
    struct str key = buf_str(&page->decoded);
    bool good = true;
    if (page->id.len > 0 && !buf_failed(&page->id) && str_starts(key, page->prefix) &&
        store_check_key(key, &unusable)) {
        good = page->visit(page->context, key, buf_str(&page->id), err);
    }
    buf_reset(&page->key);
    buf_reset(&page->id);
    return good;
}

static bool take_element(void *context, struct str parent, struct str name, struct str text,
                         struct err *err)
{
    struct page *page = context;
    bool of_upload = str_equal(parent, STR("Upload"));
    if (of_upload && str_equal(name, STR("Key"))) {
        set_text(&page->key, text);
    } else if (of_upload && str_equal(name, STR("UploadId"))) {
        set_text(&page->id, text);
    } else if (!str_equal(parent, STR("ListMultipartUploadsResult"))) {
        return true;
    } else if (str_equal(name, STR("Upload"))) {
        return show(page, err);
    } else if (str_equal(name, STR("IsTruncated"))) {
        page->truncated = str_equal_nocase(str_trim(text), STR("true"));
    } else if (str_equal(name, STR("NextKeyMarker"))) {
        set_text(&page->key_marker, text);
    } else if (str_equal(name, STR("NextUploadIdMarker"))) {
        set_text(&page->id_marker, text);
    }
    return true;
}

/* EncodingType may come after the keys. */
static bool take_encoding(void *context, struct str parent, struct str name, struct str text,
                          struct err *err)
{
    struct page *page = context;
    (void)err;
    if (str_equal(parent, STR("ListMultipartUploadsResult")) &&
        str_equal(name, STR("EncodingType"))) {
        page->encoded = str_equal_nocase(str_trim(text), STR("url"));
    }
    return true;
}

static bool fetch_page(struct store_s3 *s3, struct page *page, struct str key_marker,
                       struct str id_marker, struct cancel *cancel, struct err *err)
{
    CLEANUP(net_response_finish) struct net_response response = {0};
    struct s3_request request = {.method = "GET", .body_bytes_max = S3_ANSWER_BYTES_MAX};
    s3_add_query(&request, "encoding-type", STR("url"));
    if (key_marker.len > 0) {
        s3_add_query(&request, "key-marker", key_marker);
    }
    s3_add_query(&request, "prefix", page->prefix);
    if (key_marker.len > 0) {
        s3_add_query(&request, "upload-id-marker", id_marker);
    }
    s3_add_query(&request, "uploads", STR(""));
    if (!s3_call(s3, &request, cancel, &response, NULL, err)) {
        return false;
    }
    if (response.status != 200) {
        return s3_fail(s3, "GET", (struct str){0}, &response, err);
    }
    struct str document = buf_str(&response.body);
    page->encoded = false;
    page->truncated = false;
    buf_reset(&page->key_marker);
    buf_reset(&page->id_marker);
    return store_xml_read(document, take_encoding, page, err) &&
           store_xml_read(document, take_element, page, err) &&
           decode(page, buf_str(&page->key_marker), err);
}

static bool visit_pages(struct store_s3 *s3, struct page *page, struct cancel *cancel,
                        struct err *err)
{
    CLEANUP(buf_finish) struct buf key;
    CLEANUP(buf_finish) struct buf id;
    buf_init(&key, TEXT_LEN_MAX);
    buf_init(&id, TEXT_LEN_MAX);
    do {
        if (!fetch_page(s3, page, buf_str(&key), buf_str(&id), cancel, err)) {
            return false;
        }
        struct str next = buf_str(&page->decoded); /* the marker */
        if (page->truncated &&
            (next.len == 0 || buf_failed(&page->decoded) || buf_failed(&page->id_marker) ||
             (str_equal(next, buf_str(&key)) &&
              str_equal(buf_str(&page->id_marker), buf_str(&id))))) {
            return err_set(err, ERR_STORE, "the store does not say how its list goes on");
        }
        set_text(&key, next);
        set_text(&id, buf_str(&page->id_marker));
    } while (page->truncated);
    return true;
}

bool s3_visit_uploads(struct store *store, struct str prefix, store_visit_upload_fn *visit,
                      void *context, struct cancel *cancel, struct err *err)
{
    struct page page = {.prefix = prefix, .visit = visit, .context = context};
    struct buf *const texts[] = {&page.key, &page.id, &page.key_marker, &page.id_marker,
                                 &page.decoded};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        buf_init(texts[i], TEXT_LEN_MAX);
    }
    bool good = visit_pages((struct store_s3 *)store, &page, cancel, err);
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        buf_finish(texts[i]);
    }
    return good;
}

bool s3_send_abort(struct store_s3 *s3, struct str key, struct str id, struct cancel *cancel,
                   struct net_response *ret_response, struct err *err)
{
    struct s3_request request = {
        .method = "DELETE",
        .key = key,
        .body_bytes_max = S3_ANSWER_BYTES_MAX,
    };
    s3_add_query(&request, "uploadId", id);
    return s3_call(s3, &request, cancel, ret_response, NULL, err);
}

bool s3_abort_upload(struct store *store, struct str key, struct str id, struct cancel *cancel,
                     struct err *err)
{
    struct store_s3 *s3 = (struct store_s3 *)store;
    CLEANUP(net_response_finish) struct net_response response = {0};
    if (!s3_send_abort(s3, key, id, cancel, &response, err)) {
        return false;
    }
    bool gone = response.status == 404 || (response.status >= 200 && response.status < 300);
    return gone || s3_fail(s3, "DELETE", key, &response, err);
}
