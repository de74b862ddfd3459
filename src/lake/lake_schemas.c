#include "lake_internal.h"
#include "mem.h"

/* Bounded two ways; when it is full, the table is emptied and fills again: a schema costs one small
 * read. */
enum {
    SLOTS = 1 << 16,
    ENTRIES_MAX = 100000,
    BYTES_MAX = 64 << 20
};

struct entry {
    struct entry *next;
    uint64_t hash;
    size_t name_size; /* key, NUL, ETag */
    size_t schema_size;
    char bytes[];
};

struct lake_schemas {
    struct entry *slots[SLOTS];
    size_t count;
    size_t bytes;
};

struct lake_schemas *lake_schemas_create(void)
{
    return mem_alloc(sizeof(struct lake_schemas));
}

static void clear(struct lake_schemas *schemas)
{
    for (size_t i = 0; i < SLOTS; i++) {
        while (schemas->slots[i] != NULL) {
            struct entry *entry = schemas->slots[i];
            schemas->slots[i] = entry->next;
            mem_free(entry);
        }
    }
    schemas->count = 0;
    schemas->bytes = 0;
}

void lake_schemas_destroy(struct lake_schemas *schemas)
{
    if (schemas != NULL) {
        clear(schemas);
        mem_free(schemas);
    }
}

static void append_name(struct buf *name, struct str key, struct str etag)
{
    buf_append(name, key);
    buf_append_byte(name, '\0');
    buf_append(name, etag);
}

/* FNV-1a: keys are chosen by us, so nothing stronger is needed. */
static uint64_t hash_of(struct str name)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ (unsigned char)name.ptr[i]) * UINT64_C(1099511628211);
    }
    return hash;
}

static const struct entry *find(const struct lake_schemas *schemas, struct str name)
{
    uint64_t hash = hash_of(name);
    const struct entry *entry = schemas->slots[hash % SLOTS];
    while (entry != NULL &&
           (entry->hash != hash || !str_equal(str_make(entry->bytes, entry->name_size), name))) {
        entry = entry->next;
    }
    return entry;
}

bool lake_schemas_find(struct lake_schemas *schemas, struct str key, struct str etag,
                       struct buf *into)
{
    struct buf name;
    buf_init(&name, STORE_KEY_SIZE_MAX + STORE_ETAG_SIZE + 16);
    append_name(&name, key, etag);
    const struct entry *entry = find(schemas, buf_str(&name));
    buf_finish(&name);
    if (entry != NULL) {
        buf_append_bytes(into, entry->bytes + entry->name_size, entry->schema_size);
    }
    return entry != NULL;
}

static void insert(struct lake_schemas *schemas, struct str name, struct str schema)
{
    if (schemas->count >= ENTRIES_MAX || schemas->bytes > BYTES_MAX) {
        clear(schemas);
    }
    struct entry *entry = mem_alloc(sizeof(*entry) + name.len + schema.len);
    entry->hash = hash_of(name);
    entry->name_size = name.len;
    entry->schema_size = schema.len;
    memcpy(entry->bytes, name.ptr, name.len);
    memcpy(entry->bytes + name.len, schema.ptr, schema.len);
    entry->next = schemas->slots[entry->hash % SLOTS];
    schemas->slots[entry->hash % SLOTS] = entry;
    schemas->count++;
    schemas->bytes += sizeof(*entry) + name.len + schema.len;
}

void lake_schemas_keep(struct lake_schemas *schemas, struct str key, struct str etag,
                       const struct worker_schema *schema)
{
    struct buf name;
    struct buf text;
    buf_init(&name, STORE_KEY_SIZE_MAX + STORE_ETAG_SIZE + 16);
    buf_init(&text, BYTES_MAX / 4);
    append_name(&name, key, etag);
    worker_put_schema(&text, schema);
    if (!buf_failed(&name) && !buf_failed(&text) && find(schemas, buf_str(&name)) == NULL) {
        insert(schemas, buf_str(&name), buf_str(&text));
    }
    buf_finish(&name);
    buf_finish(&text);
}
