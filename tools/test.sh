#!/bin/bash
# test.sh - the suite: style, unit tests (release and sanitizers), contract tests against the real
# binary (tests/contract/hostile also takes the sandbox of build/layers apart), the same against the
# sanitizer build. Ends with `N passed, N failed`, counted from the
# runners' own reports; fails when anything failed or a part ran nothing.
#   EIDER_TEST_ASAN   full (default): all of it; unit: only unit tests run under sanitizers
#   EIDER_TEST_TIER   long: instead, only the contract tests that take minutes each
#   EIDER_TEST_ARGS   more arguments for pytest, for example "-k health -x"
. "$(dirname "$0")/common.sh"

asan=${EIDER_TEST_ASAN:-full}
case $asan in
    full | unit) ;;
    *) die "EIDER_TEST_ASAN is 'full' or 'unit', not '$asan'" ;;
esac

tools/packages.sh build run test
# The S3 servers of the tests take minutes of one processor, the first time: beside our own builds.
setsid bash -c "tools/versitygw.sh && tools/minio.sh" >/dev/null &
servers=$!
trap 'kill -- "-$servers" 2>/dev/null || true' EXIT
tools/build.sh release
[ "${EIDER_TEST_TIER:-}" = long ] || {
    tools/build.sh asan
    tools/build.sh layers
}
venv=$(tools/venv.sh -r tests/requirements.txt)
wait "$servers"
trap - EXIT

results=$EIDER_ROOT/build/test-results
rm -rf "$results"
mkdir -p "$results"
export EIDER_TEST_CACHE=$EIDER_CACHE
export PYTHONDONTWRITEBYTECODE=1
. tools/sanitizers.sh

# step NAME COMMAND...: runs it; the command leaves $results/NAME.xml, and its exit status is kept
# beside it, so that a runner that dies before it writes its report is a failure too.
step() {
    local name=$1 status=0
    shift
    say "$name"
    "$@" || status=$?
    printf '%s\n' "$status" >"$results/$name.status"
}

run_unit() { # PRESET NAME
    ctest --test-dir "build/$1" --label-regex unit --output-on-failure --no-tests=error \
        --parallel "$(nproc)" --output-junit "$results/$2.xml"
}

# More at a time than processors: most of a test is waiting. The files of a worker share its servers.
run_contract() { # BINARY NAME [PYTEST-ARGUMENT...]
    local binary=$1 name=$2
    shift 2
    # shellcheck disable=SC2086 # the arguments are meant to be split
    EIDER_BIN=$EIDER_ROOT/$binary "$venv/bin/python" -m pytest tests/contract -q \
        -p no:cacheprovider -n $(($(nproc) + 1)) --dist loadfile --junitxml="$results/$name.xml" \
        -o junit_suite_name="$name" "$@" ${EIDER_TEST_ARGS:-}
}

if [ "${EIDER_TEST_TIER:-}" = long ]; then
    step contract-long run_contract build/eider contract-long -m long
    exec "$venv/bin/python" tools/count_results.py "$results"
fi

step tidy tools/tidy --junit "$results/tidy.xml"
# Most of the unit tests' time is waiting for time-outs: beside the others. They print at the end.
step unit run_unit release unit >"$results/unit.log" 2>&1 &
unit=$!
step unit-asan run_unit asan unit-asan >"$results/unit-asan.log" 2>&1 &
unit_asan=$!
step contract run_contract build/eider contract -m 'not long'
wait "$unit" "$unit_asan"
cat "$results/unit.log" "$results/unit-asan.log"
if [ "$asan" = full ]; then
    step contract-asan run_contract build/asan/eider contract-asan -m 'not once and not long'
fi

"$venv/bin/python" tools/count_results.py "$results"
