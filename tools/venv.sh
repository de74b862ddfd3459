#!/bin/bash
# venv.sh [-r REQUIREMENTS | PACKAGE...] - makes sure that the one virtual environment exists and
# holds what is named; prints its folder. A stamp named by a hash of the request says "already
# done", so an up-to-date environment costs no pip.
. "$(dirname "$0")/common.sh"

venv=$EIDER_CACHE/venv
key=$({ printf '%s\n' "$@"; [ "${1:-}" != -r ] || cat "$2"; } | sha256sum | cut -c1-16)
stamp=$venv/.eider-$key

if [ ! -e "$stamp" ] || [ ! -x "$venv/bin/python" ]; then
    take_lock venv
    # An environment whose Python is gone (an upgraded system) is made anew.
    if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        say "creating a virtual environment in $venv"
        rm -rf "$venv"
        python3 -m venv "$venv"
    fi
    if [ $# -gt 0 ] && [ ! -e "$stamp" ]; then
        say "installing into the virtual environment: $*"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2
    fi
    touch "$stamp"
fi
printf '%s\n' "$venv"
