#!/bin/sh
# Builds what the runtime's benches compare with, and prints the folder that holds it: `peer` (controller-runtime, in Go) and
# `venv` (kopf and kubernetes_asyncio). Kept under ${XDG_CACHE_HOME:-~/.cache}/kaito/bench, by the checksum of what decides.
set -eu
cd "$(dirname "$0")/.."
out="${XDG_CACHE_HOME:-$HOME/.cache}/kaito/bench/$(cat bench/go/*.go bench/go/go.mod bench/go/go.sum bench/peers.txt | cksum | tr ' ' '-')"
mkdir -p "$out"

if ! [ -x "$out/peer" ]; then
    if ! command -v go >/dev/null 2>&1; then
        echo "hack/bench-peers.sh: Go is not installed; install the version named in bench/go/go.mod or a newer one" >&2
        exit 1
    fi
    echo "building bench/go" >&2
    (cd bench/go && GOTOOLCHAIN=local CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$out/peer.part" .) >&2
    mv "$out/peer.part" "$out/peer"
fi
if ! [ -f "$out/venv/.complete" ]; then
    echo "installing bench/peers.txt" >&2
    rm -rf "$out/venv"
    .venv/bin/python -m venv "$out/venv"
    "$out/venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
        --requirement bench/peers.txt >&2
    touch "$out/venv/.complete"
fi
echo "$out"
