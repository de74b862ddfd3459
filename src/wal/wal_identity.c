/* Who writes here: a small file that is replaced by each start. */
#include "wal_internal.h"

#include "digest.h"

#include <errno.h>

static const char identity_name[] = WAL_IDENTITY_NAME;
static const char identity_new_name[] = "identity.new";

bool wal_identity_load(const struct wal_folder *folder, struct wal_identity *ret_identity,
                       bool *ret_found, struct err *err)
{
    char bytes[sizeof(struct wal_identity) + 1];
    int fd = wal_file_open(folder, identity_name, WAL_OPEN_READ);
    *ret_found = fd != -ENOENT;
    if (fd == -ENOENT) {
        return true;
    }
    if (fd < 0) {
        return wal_error(fd, "open identity", 0, err);
    }
    ssize_t size = wal_file_read(folder, fd, bytes, sizeof(bytes), 0);
    (void)wal_file_close(folder, &fd);
    if (size < 0) {
        return wal_error((int)size, "read identity", 0, err);
    }
    return wal_identity_read(str_make(bytes, (size_t)size), ret_identity, err);
}

static int store(const struct wal_folder *folder, struct wal_identity *identity)
{
    struct iovec part = {identity, sizeof(*identity)};
    int fd = wal_file_open(folder, identity_new_name, WAL_OPEN_CREATE);
    int code = fd < 0 ? fd : wal_file_write(folder, fd, &part, 1, 0);
    code = code < 0 ? code : wal_file_sync(folder, fd);
    int closed = wal_file_close(folder, &fd);
    code = code < 0 ? code : closed;
    code = code < 0 ? code : wal_folder_rename(folder, identity_new_name, identity_name);
    return code < 0 ? code : wal_folder_sync(folder);
}

bool wal_identity_renew(struct wal *wal, bool has_segments, struct err *err)
{
    struct wal_identity *identity = &wal->identity;
    bool found;
    if (!wal_identity_load(&wal->folder, identity, &found, err)) {
        return false;
    }
    if (!found && has_segments) {
        return err_set(err, ERR_CORRUPT, "the log's identity is missing, and it has segments");
    }
    if (!found) {
        digest_random(identity->writer, sizeof(identity->writer));
    }
    identity->epoch++;
    wal_identity_seal(identity);
    digest_hex(identity->writer, sizeof(identity->writer), wal->writer);
    int code = store(&wal->folder, identity);
    return code == 0 || wal_error(code, "store identity", 0, err);
}
