#!/bin/bash
# unit.sh PRESET - builds a flavour and runs its unit tests.
. "$(dirname "$0")/common.sh"

tools/build.sh "$1"
. tools/sanitizers.sh
# Address randomisation of newer kernels goes further than older ThreadSanitizers expect.
without_randomisation=()
if [ "$1" = tsan ] && setarch --addr-no-randomize true 2>/dev/null; then
    without_randomisation=(setarch --addr-no-randomize)
fi
"${without_randomisation[@]}" ctest --test-dir "build/$1" --label-regex unit --output-on-failure \
    --no-tests=error --parallel "$(nproc)"
