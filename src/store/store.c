#include "store_internal.h"

#include "clock.h"

/* One call of a store that does not count itself, with the bytes that it moved when it worked. */
struct call {
    const struct store *store;
    enum store_operation operation;
    int64_t start_us;
    uint64_t bytes_in;
    uint64_t bytes_out;
};

static struct call begin_call(const struct store *store, enum store_operation operation)
{
    return (struct call){.store = store, .operation = operation, .start_us = clock_now_us()};
}

static bool end_call(const struct call *call, bool good, const struct err *err)
{
    if (!call->store->operations->counts_itself) {
        store_count_call(call->operation, call->start_us, good ? ERR_NONE : err->kind);
        if (good) {
            store_count_bytes(call->bytes_in, call->bytes_out);
        }
    }
    return good;
}

void store_close(struct store *store)
{
    if (store != NULL) {
        store->operations->close(store);
    }
}

void store_append_url(const struct store *store, struct str key, struct buf *buf)
{
    store->operations->append_url(store, key, buf);
}

bool store_keeps_content_id(const struct store *store)
{
    return store->operations->keeps_content_id;
}

void store_append_identity(const struct store *store, struct buf *into)
{
    store->operations->append_identity(store, into);
}

bool store_put(struct store *store, struct str key, const struct store_source *source,
               const struct store_put_options *options, struct cancel *cancel,
               struct store_object *ret_object, struct err *err)
{
    assert(cancel != NULL);
    assert(source->fd >= 0 || source->size == 0 || source->size == source->bytes.len);
    assert(options == NULL || options->content_id == NULL ||
           strlen(options->content_id) < STORE_CONTENT_ID_SIZE);
    struct store_source whole = *source;
    if (whole.fd < 0) {
        whole.size = whole.bytes.len;
    }
    struct store_object unwanted;
    if (!store_check_key(key, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_PUT);
    call.bytes_out = whole.size;
    bool good = store->operations->put(store, key, &whole, options, cancel,
                                       ret_object == NULL ? &unwanted : ret_object, err);
    return end_call(&call, good, err);
}

bool store_head(struct store *store, struct str key, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    assert(cancel != NULL);
    if (!store_check_key(key, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_HEAD);
    ret_object->content_id[0] = '\0';
    bool good = store->operations->head(store, key, cancel, ret_object, err);
    return end_call(&call, good, err);
}

bool store_get_range(struct store *store, struct str key, const char *if_match, uint64_t offset,
                     uint64_t size, int into_fd, uint64_t into_offset, struct cancel *cancel,
                     struct err *err)
{
    assert(cancel != NULL);
    assert(into_fd >= 0);
    if (size > (uint64_t)INT64_MAX || offset > (uint64_t)INT64_MAX - size ||
        into_offset > (uint64_t)INT64_MAX - size) {
        return err_set(err, ERR_INVALID, "the range of \"%.*s\" is not possible", STR_ARG(key));
    }
    if (!store_check_key(key, err)) {
        return false;
    }
    if (size == 0) {
        return true;
    }
    struct call call = begin_call(store, STORE_GET);
    call.bytes_in = size;
    bool good = store->operations->get_range(store, key, if_match, offset, size, into_fd,
                                             into_offset, cancel, err);
    return end_call(&call, good, err);
}

bool store_get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
               struct store_object *ret_object, struct err *err)
{
    assert(cancel != NULL);
    struct store_object unwanted;
    if (!store_check_key(key, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_GET);
    size_t before = into->len;
    bool good = store->operations->get(store, key, into, cancel,
                                       ret_object == NULL ? &unwanted : ret_object, err);
    call.bytes_in = into->len - before;
    return end_call(&call, good, err);
}

bool store_open_direct(struct store *store, struct str key, int *ret_fd,
                       struct store_object *ret_object, struct err *err)
{
    *ret_fd = -1;
    if (!store_check_key(key, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_GET);
    bool good = store->operations->open_direct(store, key, ret_fd, ret_object, err);
    return end_call(&call, good, err);
}

bool store_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    if (!store_check_prefix(prefix, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_LIST);
    bool good = store->operations->list(store, prefix, visit, context, cancel, err);
    return end_call(&call, good, err);
}

bool store_list_folders(struct store *store, struct str prefix, bool empty_too,
                        store_visit_fn *visit, void *context, struct cancel *cancel,
                        struct err *err)
{
    assert(cancel != NULL);
    assert(prefix.len == 0 || prefix.ptr[prefix.len - 1] == '/');
    if (!store_check_prefix(prefix, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_LIST);
    bool good =
        store->operations->list_folders(store, prefix, empty_too, visit, context, cancel, err);
    return end_call(&call, good, err);
}

bool store_delete(struct store *store, struct str key, struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    if (!store_check_key(key, err)) {
        return false;
    }
    struct call call = begin_call(store, STORE_DELETE);
    bool good = store->operations->delete_key(store, key, cancel, err);
    return end_call(&call, good, err);
}

bool store_visit_uploads(struct store *store, struct str prefix, store_visit_upload_fn *visit,
                         void *context, struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    return store_check_prefix(prefix, err) &&
           (store->operations->visit_uploads == NULL ||
            store->operations->visit_uploads(store, prefix, visit, context, cancel, err));
}

bool store_abort_upload(struct store *store, struct str key, struct str id, struct cancel *cancel,
                        struct err *err)
{
    assert(cancel != NULL);
    assert(id.len > 0);
    return store_check_key(key, err) &&
           (store->operations->abort_upload == NULL ||
            store->operations->abort_upload(store, key, id, cancel, err));
}
