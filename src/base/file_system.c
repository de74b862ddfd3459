#include "file_system.h"

#include <errno.h>
#include <sys/vfs.h>

/* Of linux/magic.h and the file systems' own headers. */
/* clang-format off */
static const struct { uint32_t magic; enum file_system kind; } known[] = {
    { 0x00006969, FILE_SYSTEM_NETWORK }, /* nfs */
    { 0x0000517b, FILE_SYSTEM_NETWORK }, /* smb */
    { 0xff534d42, FILE_SYSTEM_NETWORK }, /* cifs */
    { 0xfe534d42, FILE_SYSTEM_NETWORK }, /* smb2 and 3 */
    { 0x00c36400, FILE_SYSTEM_NETWORK }, /* ceph */
    { 0x5346414f, FILE_SYSTEM_NETWORK }, /* afs */
    { 0x73757245, FILE_SYSTEM_NETWORK }, /* coda */
    { 0x0bd00bd0, FILE_SYSTEM_NETWORK }, /* lustre */
    { 0x01161970, FILE_SYSTEM_NETWORK }, /* gfs2 */
    { 0x7461636f, FILE_SYSTEM_NETWORK }, /* ocfs2 */
    { 0x794c7630, FILE_SYSTEM_OVERLAY }, /* overlay */
    { 0x61756673, FILE_SYSTEM_OVERLAY }, /* aufs */
};
/* clang-format on */

enum file_system file_system_of_magic(uint32_t magic)
{
    for (size_t i = 0; i < COUNT_OF(known); i++) {
        if (known[i].magic == magic) {
            return known[i].kind;
        }
    }
    return FILE_SYSTEM_LOCAL;
}

bool file_system_of(const char *path, enum file_system *ret_kind, struct err *err)
{
    struct statfs info;
    if (statfs(path, &info) != 0) {
        return err_set_errno(err, ERR_UNAVAILABLE, errno, "cannot look at the file system of %s",
                             path);
    }
    *ret_kind = file_system_of_magic((uint32_t)info.f_type);
    return true;
}
