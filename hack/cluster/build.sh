#!/bin/sh
# Builds a Kubernetes control plane and kubectl releases from their published Go modules, and prints the folder they are in:
#   etcd kube-apiserver kube-controller-manager kube-scheduler kwok kubectl/MINOR/kubectl
# and, only when they are named, what a real node needs besides: kubelet kube-proxy pause
#
# `hack/cluster/build.sh [NAME…]` builds only those named (a kubectl is named kubectl/1.34); without names, all of the
# first line. What is in KUBEBUILDER_ASSETS is not built. Results are kept under ${XDG_CACHE_HOME:-~/.cache}/kaito/cluster,
# in a folder named by the checksum of this script and of all module files, so that only a change of those builds
# anything again. Two runs at the same time wait for each other.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here"

need_go_minor=25
kubernetes=1.34.4
everything="etcd kube-apiserver kube-controller-manager kube-scheduler kwok"
node="kubelet kube-proxy pause"
for modfile in kubectl/*.mod; do
    everything="$everything kubectl/$(basename "$modfile" .mod)"
done

checksum() { # of all files that decide what is built, whatever their order on disk
    cat build.sh go.mod go.sum kwok/go.mod kwok/go.sum kubectl/*.mod kubectl/*.sum kubectl/main.go pause/go.mod pause/main.go | cksum | tr ' ' '-'
}
out="${XDG_CACHE_HOME:-$HOME/.cache}/kaito/cluster/$(checksum)"
mkdir -p "$out"

file_of() { # where a named program belongs below $out
    case $1 in kubectl/*) echo "$1/kubectl" ;; *) echo "$1" ;; esac
}
missing() {
    for name in "$@"; do
        if ! [ -x "$out/$(file_of "$name")" ]; then
            if [ -z "${KUBEBUILDER_ASSETS:-}" ] || ! [ -x "$KUBEBUILDER_ASSETS/$(file_of "$name")" ]; then
                echo "$name"
            fi
        fi
    done
}

check_go() {
    if ! command -v go >/dev/null 2>&1; then
        echo "hack/cluster/build.sh: Go is not installed. Install Go 1.$need_go_minor or newer, or set KUBEBUILDER_ASSETS to a" \
            "folder that holds: $*" >&2
        exit 1
    fi
    minor=$(GOTOOLCHAIN=local go env GOVERSION | sed -e 's/^go1\.//' -e 's/[^0-9].*//')
    if [ "${minor:-0}" -lt "$need_go_minor" ]; then
        echo "hack/cluster/build.sh: $(GOTOOLCHAIN=local go env GOVERSION) is too old to build: $*." \
            "Install Go 1.$need_go_minor or newer, or set KUBEBUILDER_ASSETS to a folder that holds them." >&2
        exit 1
    fi
}

lock() { # one builder per folder; a lock whose owner is gone is taken over
    until mkdir "$out/.lock" 2>/dev/null; do
        owner=$(cat "$out/.lock/pid" 2>/dev/null || true)
        if [ -n "$owner" ] && ! kill -0 "$owner" 2>/dev/null; then
            rm -rf "$out/.lock"
        else
            sleep 1
        fi
    done
    echo $$ >"$out/.lock/pid"
    trap 'rm -rf "$out/.lock" "$out"/.part.*' EXIT
    trap 'exit 1' INT TERM HUP
}

compile() { # NAME FOLDER PACKAGE LDFLAGS [go build flags…]
    name=$1 folder=$2 package=$3 flags=$4
    shift 4
    echo "building $name" >&2
    part="$out/.part.$$"
    (cd "$folder" && go build -trimpath "$@" -ldflags "-s -w $flags" -o "$part" "$package") >&2
    mkdir -p "$(dirname "$out/$(file_of "$name")")"
    mv "$part" "$out/$(file_of "$name")"
}

kubernetes_version() { # what `kubectl version` parses; the tree is what a release tarball's is
    echo "-X k8s.io/component-base/version.gitVersion=v$1 -X k8s.io/component-base/version.gitTreeState=archive" \
        "-X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(echo "$1" | cut -d. -f2)"
}

build() {
    case $1 in
    etcd) compile etcd . go.etcd.io/etcd/server/v3 "" ;;
    kube-* | kubelet) compile "$1" . "k8s.io/kubernetes/cmd/$1" "$(kubernetes_version "$kubernetes")" ;;
    pause) compile pause pause . "" ;;
    kwok) compile kwok kwok sigs.k8s.io/kwok/cmd/kwok "" ;;
    kubectl/*)
        modfile="$(basename "$1").mod"
        patch=$(sed -n 's/^.*k8s.io\/kubectl v0\.\([0-9.]*\)$/\1/p' "kubectl/$modfile")
        compile "$1" kubectl . "$(kubernetes_version "1.$patch")" -modfile="$modfile"
        ;;
    *)
        echo "hack/cluster/build.sh: there is nothing named $1 to build. It can be one of: $everything $node" >&2
        exit 1
        ;;
    esac
}

[ $# -gt 0 ] || set -- $everything
wanted=$(missing "$@")
if [ -n "$wanted" ]; then
    # shellcheck disable=SC2086 # names hold no spaces
    check_go $wanted
    export GOTOOLCHAIN=local CGO_ENABLED=0 GOFLAGS=-buildvcs=false
    lock
    for name in $(missing "$@"); do # another run may have built some while this one waited
        build "$name"
    done
fi
echo "$out"
