#include "store_internal.h"

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
    struct store_source whole = *source;
    if (whole.fd < 0) {
        whole.size = whole.bytes.len;
    }
    struct store_object unwanted;
    return store_check_key(key, err) &&
           store->operations->put(store, key, &whole, options, cancel,
                                  ret_object == NULL ? &unwanted : ret_object, err);
}

bool store_head(struct store *store, struct str key, struct cancel *cancel,
                struct store_object *ret_object, struct err *err)
{
    assert(cancel != NULL);
    return store_check_key(key, err) &&
           store->operations->head(store, key, cancel, ret_object, err);
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
    return store_check_key(key, err) &&
           (size == 0 || store->operations->get_range(store, key, if_match, offset, size, into_fd,
                                                      into_offset, cancel, err));
}

bool store_get(struct store *store, struct str key, struct buf *into, struct cancel *cancel,
               struct store_object *ret_object, struct err *err)
{
    assert(cancel != NULL);
    struct store_object unwanted;
    return store_check_key(key, err) &&
           store->operations->get(store, key, into, cancel,
                                  ret_object == NULL ? &unwanted : ret_object, err);
}

bool store_open_direct(struct store *store, struct str key, int *ret_fd,
                       struct store_object *ret_object, struct err *err)
{
    *ret_fd = -1;
    return store_check_key(key, err) &&
           store->operations->open_direct(store, key, ret_fd, ret_object, err);
}

bool store_list(struct store *store, struct str prefix, store_visit_fn *visit, void *context,
                struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    return store_check_prefix(prefix, err) &&
           store->operations->list(store, prefix, visit, context, cancel, err);
}

bool store_list_folders(struct store *store, struct str prefix, store_visit_fn *visit,
                        void *context, struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    assert(prefix.len == 0 || prefix.ptr[prefix.len - 1] == '/');
    return store_check_prefix(prefix, err) &&
           store->operations->list_folders(store, prefix, visit, context, cancel, err);
}

bool store_delete(struct store *store, struct str key, struct cancel *cancel, struct err *err)
{
    assert(cancel != NULL);
    return store_check_key(key, err) && store->operations->delete_key(store, key, cancel, err);
}
