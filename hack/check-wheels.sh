#!/bin/sh
# Proves that constraints.txt can be installed from wheels alone on every platform and Python we promise.
# (Intel Macs: several of these projects no longer publish wheels for them; use Linux or Apple silicon.)
# Also that those of the images with torch can, and that torch's wheels are those whose GPU architectures are recorded.
set -eu
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
for platform in aarch64-apple-darwin x86_64-manylinux_2_28 aarch64-manylinux_2_28; do
    for python in 3.11 3.12 3.13 3.14; do
        printf -- '-e ./presets[mistralrs]\n-e .[local,dev]\n' >"$work/requirements.in"
        cp "$work/requirements.in" ./.check-wheels.in
        if "$uv" pip compile --quiet --no-header --no-annotate --only-binary :all: --python-platform "$platform" \
            --python-version "$python" --constraint constraints.txt ./.check-wheels.in >"$work/out" 2>"$work/err"; then
            echo "ok      $platform Python $python: $(grep -c == "$work/out") wheels"
        else
            echo "FAILED  $platform Python $python"
            cat "$work/err"
            failed=1
        fi
        rm -f ./.check-wheels.in
    done
done
for constraints in images/runtime-*/constraints*.txt; do
    folder=${constraints%/*}
    only=$(sed -n '1s/.*(x86_64, Python \([^)]*\)).*/\1/p' "$constraints" | sed 's/and//')
    for python in ${only:-3.11 3.12 3.13 3.14}; do
        echo "-e ./presets[${folder#images/runtime-}]" >./.check-wheels.in
        if "$uv" pip compile --quiet --no-header --no-annotate --only-binary :all: --python-platform x86_64-manylinux_2_31 \
            --python-version "$python" --constraint "$constraints" ./.check-wheels.in >"$work/out" 2>"$work/err"; then
            echo "ok      $constraints Python $python: $(grep -c == "$work/out") wheels"
        else
            echo "FAILED  $constraints Python $python"
            cat "$work/err"
            failed=1
        fi
        rm -f ./.check-wheels.in
    done
done
.venv/bin/python -m hack.torch_wheels --check || failed=1
exit $failed
