/* Multipart uploads that nobody will end: of a life that a crash ended, or whose abort failed. What
 * tells them from those that go on now is the list of keys that are being put: an upload of this
 * process is in the store only while its key is listed here. Others' uploads are left alone: their
 * keys carry another writer's identity. */
#include "lake_ship_internal.h"

#include "clock.h"
#include "log.h"
#include "mem.h"

enum {
    AGAIN_MS = 3600000,
    RETRY_MS = 60000,
    UPLOADS_MAX = 10000, /* of one sweep; the rest is for the next */
    KEY_TIME_MS = 5000
};

/* ---- keys that are being put ---- */

void ship_begin_put(struct lake_ship *ship, struct ship_putting *putting, struct str key)
{
    putting->key = key;
    lock_take(&ship->lock);
    putting->next = ship->putting;
    ship->putting = putting;
    lock_release(&ship->lock);
}

void ship_end_put(struct lake_ship *ship, const struct ship_putting *putting)
{
    lock_take(&ship->lock);
    struct ship_putting **link = &ship->putting;
    while (*link != putting) {
        link = &(*link)->next;
    }
    *link = putting->next;
    lock_release(&ship->lock);
}

static bool is_being_put(struct lake_ship *ship, struct str key)
{
    lock_take(&ship->lock);
    const struct ship_putting *putting = ship->putting;
    while (putting != NULL && !str_equal(putting->key, key)) {
        putting = putting->next;
    }
    lock_release(&ship->lock);
    return putting != NULL;
}

/* ---- uploads ---- */

struct upload {
    char *key;
    char *id;
    struct upload *next;
};

struct search {
    const struct lake *lake;
    struct upload *found;
    size_t count;
};

static bool note_upload(void *context, struct str key, struct str id, struct err *err)
{
    struct search *search = context;
    (void)err;
    if (search->count < UPLOADS_MAX && lake_object_is_own(search->lake, key)) {
        struct upload *upload = mem_alloc(sizeof(*upload));
        upload->key = mem_copy_bytes(key.ptr, key.len);
        upload->id = mem_copy_bytes(id.ptr, id.len);
        upload->next = search->found;
        search->found = upload;
        search->count++;
    }
    return true;
}

/* Ours below the prefix; but when it is the very key that the caller puts, not those that are put
 * now. */
static bool abort_below(struct lake_ship *ship, struct str prefix, bool own_key,
                        struct cancel *cancel, struct err *err)
{
    struct store *store = ship->lake->store;
    struct search search = {.lake = ship->lake};
    struct err other;
    uint64_t aborted = 0;
    bool good = store_visit_uploads(store, prefix, note_upload, &search, cancel, err);
    for (struct upload *next, *upload = search.found; upload != NULL; upload = next) {
        next = upload->next;
        if (good && (own_key || !is_being_put(ship, str_of(upload->key)))) {
            bool gone =
                store_abort_upload(store, str_of(upload->key), str_of(upload->id), cancel, &other);
            aborted += gone ? 1 : 0;
            if (!gone) {
                good = false;
                *err = other;
            }
        }
        mem_free(upload->key);
        mem_free(upload->id);
        mem_free(upload);
    }
    if (aborted > 0) {
        LOG(LOG_INFO, "lake.uploads_aborted", LOG_NUM("count", aborted));
    }
    return good;
}

void ship_abort_earlier(struct lake_ship *ship, struct str key)
{
    struct cancel grace;
    struct err ignored; /* the next sweep will do */
    cancel_init(&grace, clock_now_ms() + KEY_TIME_MS);
    (void)!abort_below(ship, key, true, &grace, &ignored);
    cancel_finish(&grace);
}

bool ship_sweep_is_due(struct lake_ship *ship, int64_t now_ms, int64_t *ret_next_ms)
{
    lock_take(&ship->lock);
    *ret_next_ms = ship->sweeping ? INT64_MAX : ship->sweep_at_ms;
    lock_release(&ship->lock);
    return *ret_next_ms <= now_ms;
}

void ship_sweep_uploads(struct lake_ship *ship, struct cancel *cancel)
{
    struct err err;
    struct buf prefix;
    lock_take(&ship->lock);
    bool mine = !ship->sweeping;
    ship->sweeping = true;
    lock_release(&ship->lock);
    if (!mine) {
        return;
    }
    buf_init(&prefix, STORE_KEY_SIZE_MAX);
    buf_append_format(&prefix, "%sdata/", ship->lake->prefix);
    bool good = abort_below(ship, buf_str(&prefix), false, cancel, &err);
    buf_finish(&prefix);
    lock_take(&ship->lock);
    bool first = !good && !ship->sweep_failed;
    ship->sweeping = false;
    ship->sweep_failed = !good;
    ship->sweep_at_ms = clock_now_ms() + (good ? AGAIN_MS : RETRY_MS);
    lock_release(&ship->lock);
    if (first && !ship_is_stopping(ship)) {
        LOG(LOG_WARN, "lake.uploads_not_swept", LOG_ERR(&err));
    }
}
