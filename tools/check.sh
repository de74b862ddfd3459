#!/bin/bash
# check.sh - what a change must pass before the tests: the style checker, formatting, a build with
# clang and its thread-safety analysis, and clang-tidy. `check.sh format` rewrites files instead.
. "$(dirname "$0")/common.sh"

tools/packages.sh build check
mapfile -t files < <(find src tests bench -name '*.[ch]' -o -name '*.cpp' | sort)

if [ "${1:-}" = format ]; then
    clang-format -i "${files[@]}"
    exit
fi

failed=0
step() {
    local name=$1
    shift
    say "$name"
    "$@" || {
        say "$name: failed"
        failed=1
    }
}

run_clang_tidy() {
    find src -name '*.c' -print0 |
        xargs -0 -n 4 -P "$(nproc)" clang-tidy --quiet -p build/clang 2>/dev/null
}

step style tools/tidy
step format clang-format --dry-run --Werror "${files[@]}"
step build tools/build.sh clang
step clang-tidy run_clang_tidy
exit "$failed"
