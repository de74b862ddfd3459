#include "wal_format.h"

#include "crc32c.h"

static uint32_t crc_of_salt(uint32_t crc, uint64_t salt)
{
    return crc32c(crc, &salt, sizeof(salt));
}

static bool all_zeros(const void *bytes, size_t size)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < size; i++) {
        if (at[i] != 0) {
            return false;
        }
    }
    return true;
}

/* ---- identity ---- */

void wal_identity_seal(struct wal_identity *identity)
{
    memcpy(identity->magic, WAL_IDENTITY_MAGIC, sizeof(identity->magic));
    identity->version = WAL_FORMAT_VERSION;
    identity->crc = crc32c(0, identity, offsetof(struct wal_identity, crc));
}

bool wal_identity_read(struct str bytes, struct wal_identity *ret_identity, struct err *err)
{
    struct wal_identity identity = {0};
    if (bytes.len != sizeof(identity)) {
        return err_set(err, ERR_CORRUPT, "the log's identity is damaged: it has %zu bytes",
                       bytes.len);
    }
    memcpy(&identity, bytes.ptr, sizeof(identity));
    if (memcmp(identity.magic, WAL_IDENTITY_MAGIC, sizeof(identity.magic)) != 0 ||
        identity.crc != crc32c(0, &identity, offsetof(struct wal_identity, crc))) {
        return err_set(err, ERR_CORRUPT, "the log's identity is damaged");
    }
    if (identity.version != WAL_FORMAT_VERSION) {
        return err_set(err, ERR_CORRUPT, "the log has format %u, this program knows %d",
                       identity.version, WAL_FORMAT_VERSION);
    }
    *ret_identity = identity;
    return true;
}

/* ---- segments ---- */

void wal_segment_header_seal(struct wal_segment_header *header)
{
    memcpy(header->magic, WAL_SEGMENT_MAGIC, sizeof(header->magic));
    header->version = WAL_FORMAT_VERSION;
    header->header_size = WAL_SEGMENT_HEADER_SIZE;
    assert(header->first > header->previous);
    assert(header->replaces <= header->number);
    header->crc = crc32c(0, header, offsetof(struct wal_segment_header, crc));
}

bool wal_segment_header_read(struct str bytes, struct wal_segment_header *ret_header)
{
    if (bytes.len < sizeof(*ret_header)) {
        return false;
    }
    memcpy(ret_header, bytes.ptr, sizeof(*ret_header));
    const struct wal_segment_header *header = ret_header;
    return memcmp(header->magic, WAL_SEGMENT_MAGIC, sizeof(header->magic)) == 0 &&
           header->crc == crc32c(0, header, offsetof(struct wal_segment_header, crc)) &&
           header->version == WAL_FORMAT_VERSION &&
           header->header_size == WAL_SEGMENT_HEADER_SIZE && header->first > header->previous &&
           header->replaces <= header->number && header->file_bytes >= WAL_SEGMENT_HEADER_SIZE;
}

/* ---- records ---- */

static uint32_t header_crc(const struct wal_record_header *header, uint64_t salt)
{
    return crc32c(crc_of_salt(0, salt), header, offsetof(struct wal_record_header, header_crc));
}

static uint32_t record_crc(const struct wal_record_header *header, uint64_t salt,
                           uint32_t payload_crc)
{
    return crc32c(crc_of_salt(payload_crc, salt), header, offsetof(struct wal_record_header, crc));
}

void wal_record_seal(struct wal_record_header *header, uint64_t salt, uint32_t payload_crc)
{
    assert(header->payload_size <= WAL_PAYLOAD_SIZE_MAX);
    assert(header->durable < header->sequence);
    header->magic = WAL_RECORD_MAGIC;
    header->header_size = WAL_RECORD_HEADER_SIZE;
    header->header_crc = header_crc(header, salt);
    header->crc = record_crc(header, salt, payload_crc);
}

bool wal_record_read_header(struct str bytes, uint64_t salt, struct wal_record_header *ret_header)
{
    if (bytes.len < sizeof(*ret_header)) {
        return false;
    }
    memcpy(ret_header, bytes.ptr, sizeof(*ret_header));
    const struct wal_record_header *header = ret_header;
    return header->magic == WAL_RECORD_MAGIC && header->header_size == WAL_RECORD_HEADER_SIZE &&
           header->flags == 0 && header->zero == 0 && header->zero_too == 0 &&
           header->durable < header->sequence && header->payload_size <= WAL_PAYLOAD_SIZE_MAX &&
           header->header_crc == header_crc(header, salt);
}

bool wal_record_read(struct str bytes, uint64_t salt, struct wal_record_header *ret_header,
                     struct str *ret_payload)
{
    if (!wal_record_read_header(bytes, salt, ret_header)) {
        return false;
    }
    size_t payload_size = ret_header->payload_size;
    size_t size = (size_t)wal_record_size(payload_size);
    if (size > bytes.len) {
        return false;
    }
    const char *payload = bytes.ptr + WAL_RECORD_HEADER_SIZE;
    *ret_payload = str_make(payload, payload_size);
    return ret_header->crc == record_crc(ret_header, salt, crc32c(0, payload, payload_size)) &&
           all_zeros(payload + payload_size, size - WAL_RECORD_HEADER_SIZE - payload_size);
}
