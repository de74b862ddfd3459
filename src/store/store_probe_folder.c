/* What the probe asks of a folder alone: is there room. */
#include "store_folder.h"
#include "store_probe_internal.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define ROOM_BYTES_MIN (UINT64_C(1) << 30)

bool folder_probe_reach(struct store *store, struct store_probe *probe)
{
    const struct store_folder *folder = (const struct store_folder *)store;
    struct statvfs status;
    if (fstatvfs(folder->root_fd, &status) != 0) {
        probe_tell(probe, "reach", STORE_PROBE_FAIL, STORE_CAUSE_FAILED,
                   "the folder %s cannot be looked at", folder->path);
        return false;
    }
    uint64_t room = (uint64_t)status.f_bavail * status.f_frsize;
    bool enough = room >= ROOM_BYTES_MIN;
    probe_tell(probe, "reach", enough ? STORE_PROBE_OK : STORE_PROBE_WARN,
               enough ? STORE_CAUSE_NONE : STORE_CAUSE_FULL, "the folder %s has room for %.1f GB",
               folder->path, (double)room / 1e9);
    return true;
}

/* A folder that is empty goes with the objects; somebody else's check may still be in it. */
void folder_probe_end(struct store *store, const struct store_probe *probe)
{
    const struct store_folder *folder = (const struct store_folder *)store;
    struct folder_path parent = folder_path_of(
        str_first(probe->options->prefix,
                  probe->options->prefix.len == 0 ? 0 : probe->options->prefix.len - 1));
    int fd = folder_open(folder, parent.text, O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        (void)unlinkat(fd, ".eider-check", AT_REMOVEDIR);
        (void)close(fd);
    }
}
