# sanitizers.sh - options of the sanitizer builds; source it. Neither sees into the DuckDB library,
# which is not instrumented: what it keeps until the end is no leak of ours, and its own locking is
# no race of ours. Nothing of our code is suppressed.
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$EIDER_ROOT/tools/lsan.supp:print_suppressions=0
export TSAN_OPTIONS=suppressions=$EIDER_ROOT/tools/tsan.supp:halt_on_error=1
