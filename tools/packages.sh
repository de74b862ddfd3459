#!/bin/bash
# packages.sh SET... - makes sure that the Debian packages of the named sets are installed.
# Asks dpkg first and touches nothing when all are there. `a|b` means that either will do.
. "$(dirname "$0")/common.sh"

packages_build=(
    gcc g++ libc6-dev cmake ninja-build 'pkgconf|pkg-config' python3 python3-venv ca-certificates
    libmicrohttpd-dev 'libcurl4-openssl-dev|libcurl4-gnutls-dev' libjansson-dev libjose-dev
    libssl-dev zlib1g-dev libzstd-dev liblz4-dev libbrotli-dev libseccomp-dev
)
packages_run=(curl)
packages_test=(openssl libeatmydata1)
packages_check=(clang clang-format clang-tidy)
packages_bench=('nginx-light|nginx|nginx-core' postgresql)

wanted=()
for name in "$@"; do
    declare -n packages="packages_$name"
    wanted+=("${packages[@]}")
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    say "not a Debian system: see to the equivalents of ${wanted[*]}"
    exit 0
fi

all=$(printf '%s\n' "${wanted[@]}" | tr '|' '\n')
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $all 2>/dev/null |
    sed -n 's/^installed //p' || true)
missing=()
for alternatives in "${wanted[@]}"; do
    grep -qxE "${alternatives//+/\\+}" <<<"$installed" || missing+=("${alternatives%%|*}")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "these Debian packages are missing, and installing them needs \
root or sudo: ${missing[*]} (as root: apt-get install ${missing[*]})"
    as_root=(sudo)
fi

say "installing Debian packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_apt() {
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1; then
        cat "$log" >&2
        die "apt-get $1 failed; missing: ${missing[*]}"
    fi
}
run_apt update
run_apt install -y --no-install-recommends "${missing[@]}"
