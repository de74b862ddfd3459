#!/bin/bash
# build.sh [PRESET] - makes sure that packages and DuckDB are there, configures once and builds.
# PRESET is one of CMakePresets.json (default: release). DUCKDB_DIR=/path takes the library and the
# headers from there instead of the pinned ones.
. "$(dirname "$0")/common.sh"

preset=${1:-release}
tools/packages.sh build
case $preset in
    clang | fuzz) tools/packages.sh check ;;
esac

if [ -n "${DUCKDB_DIR:-}" ]; then
    duckdb=$(realpath -e "$DUCKDB_DIR" 2>/dev/null) || die "DUCKDB_DIR: there is no $DUCKDB_DIR"
    pinned=OFF
else
    duckdb=$(tools/duckdb.sh)
    pinned=ON
fi

# From then on ninja itself notices what has changed, CMake files included.
configured=build/$preset/.configured
if [ ! -e "build/$preset/build.ninja" ] || [ "$(cat "$configured" 2>/dev/null)" != "$duckdb" ]; then
    say "configuring build/$preset"
    mkdir -p build
    rm -f "$configured"
    cmake --preset "$preset" -DDUCKDB_DIR="$duckdb" -DDUCKDB_PINNED=$pinned \
        >build/configure.log 2>&1 || {
        cat build/configure.log >&2
        exit 1
    }
    grep -A4 '^CMake Warning' build/configure.log >&2 || true
    printf '%s\n' "$duckdb" >"$configured"
fi
case $preset in
    layers) cmake --build --preset "$preset" --target eider ;; # for contract tests alone
    *) cmake --build --preset "$preset" ;;
esac
