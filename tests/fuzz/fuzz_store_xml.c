/* The reader of S3's XML: any bytes parse or are ERR_STORE, names lie within the document, text
 * keeps its limit, elements are as deep as promised, and escaped text comes back as it was. */
#include "store_xml.h"

#include <stdlib.h>

enum {
    TEXT_BYTES_MAX = 64 * 1024
};

#define MUST(condition)     \
    do {                    \
        if (!(condition)) { \
            abort();        \
        }                   \
    } while (0)

struct seen {
    struct str document;
    size_t elements;
    bool root;
    uint8_t stop_after; /* 0: never */
};

static bool lies_within(struct str text, struct str document)
{
    return text.len == 0 ||
           (text.ptr >= document.ptr && text.ptr + text.len <= document.ptr + document.len);
}

static bool note(void *context, struct str parent, struct str name, struct str text,
                 struct err *err)
{
    struct seen *seen = context;
    MUST(!seen->root);
    MUST(lies_within(parent, seen->document));
    MUST(lies_within(name, seen->document));
    MUST(text.len <= TEXT_BYTES_MAX);
    seen->root = parent.len == 0;
    seen->elements++;
    return seen->stop_after == 0 || seen->elements < seen->stop_after ||
           err_set(err, ERR_CONFLICT, "enough");
}

static bool keep_text(void *context, struct str parent, struct str name, struct str text,
                      struct err *err)
{
    (void)parent;
    (void)name;
    (void)err;
    buf_append(context, text);
    return true;
}

static void check_escaped(struct str text)
{
    struct buf document;
    struct buf again;
    struct err err = {0};
    buf_init(&document, 6 * text.len + 16);
    buf_init(&again, text.len + 1);
    buf_append_text(&document, "<A>");
    store_xml_append_escaped(&document, text);
    buf_append_text(&document, "</A>");
    MUST(!buf_failed(&document));
    if (store_xml_read(buf_str(&document), keep_text, &again, &err)) {
        MUST(!buf_failed(&again));
        MUST(str_equal(buf_str(&again), text));
    } else {
        MUST(err.kind == ERR_STORE);
        MUST(text.len > TEXT_BYTES_MAX);
    }
    buf_finish(&document);
    buf_finish(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str document = str_make((const char *)data, size);
    struct seen seen = {.document = document};
    struct err err = {0};
    if (store_xml_read(document, note, &seen, &err)) {
        MUST(seen.root);
    } else {
        MUST(err.kind == ERR_STORE);
    }
    if (size > 0) {
        seen = (struct seen){.document = document, .stop_after = data[0]};
        if (!store_xml_read(document, note, &seen, &err)) {
            MUST(err.kind == ERR_STORE || (err.kind == ERR_CONFLICT && seen.stop_after > 0));
        }
    }
    check_escaped(document);
    return 0;
}
