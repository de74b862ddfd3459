# common.sh - what every script in this folder begins with; source it, do not run it.
# Sets EIDER_ROOT (the source tree) and EIDER_CACHE (what is fetched once and kept), and goes to the
# source tree.

set -euo pipefail

EIDER_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
EIDER_CACHE=${XDG_CACHE_HOME:-${HOME:?"HOME is not set"}/.cache}/eider
cd "$EIDER_ROOT"

say() {
    printf '== %s\n' "$*" >&2
}

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# take_lock NAME: waits for, and keeps until this process ends, a lock of the cache folder, so that
# two builds at the same time do not fetch the same thing twice.
take_lock() {
    mkdir -p "$EIDER_CACHE"
    exec 9>"$EIDER_CACHE/.$1.lock"
    flock 9
}

# check_sha256 DIGEST FILE
check_sha256() {
    local found
    found=$(sha256sum "$2" | cut -d' ' -f1)
    [ "$found" = "$1" ] || die "$(basename "$2") has digest $found, not the pinned $1"
}
