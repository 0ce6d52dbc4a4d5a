#!/bin/sh
# Makes and reuses .venv, then installs this project into it: `hack/venv.sh local` (the default) or `hack/venv.sh dev`.
#
# Looks for python3.14 … python3.11 that really start (version managers leave shims that do not), then for uv,
# which can fetch a Python by itself; otherwise says what to install.
set -eu
cd "$(dirname "$0")/.."
extra=${1:-local}
venv=.venv

stamp="$venv/.installed-$extra"
# Everything that decides what gets installed, in one line.
want=$(cat pyproject.toml presets/pyproject.toml constraints.txt | cksum)

if [ -x "$venv/bin/python" ] && ! "$venv/bin/python" -c '' 2>/dev/null; then
    echo "The Python behind $venv is gone; making it again." >&2
    rm -rf "$venv"
fi
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then
    exit 0
fi

find_python() {
    for version in 3.14 3.13 3.12 3.11; do
        if "python$version" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "python$version"
            return
        fi
    done
    if python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null; then
        echo python3
    fi
}

if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    if [ -n "$python" ]; then
        echo "Making $venv with $($python --version)" >&2
        if ! "$python" -m venv "$venv" 2>"${TMPDIR:-/tmp}/kaito-venv.$$"; then
            cat "${TMPDIR:-/tmp}/kaito-venv.$$" >&2
            rm -rf "$venv" "${TMPDIR:-/tmp}/kaito-venv.$$"
            echo "$python cannot make a virtual environment. On Debian or Ubuntu: sudo apt-get install ${python}-venv" \
                "(python3-venv for the default Python). Then run the same command again." >&2
            exit 1
        fi
        rm -f "${TMPDIR:-/tmp}/kaito-venv.$$"
    elif command -v uv >/dev/null 2>&1; then
        echo "Making $venv with uv" >&2
        uv venv --seed --python '>=3.11,<3.15' "$venv"
    else
        echo "KAITO needs Python 3.11, 3.12, 3.13 or 3.14, and none was found (nor uv, which could fetch one)." >&2
        echo "  Debian, Ubuntu: sudo apt-get install python3 python3-venv" >&2
        echo "  Fedora:         sudo dnf install python3.13" >&2
        echo "  macOS:          brew install python@3.13" >&2
        exit 1
    fi
fi

echo "Installing kaito[$extra] into $venv" >&2
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
    --editable './presets[mistralrs]' --editable ".[$extra]"
echo "$want" >"$stamp"
if [ "$extra" = dev ]; then # dev holds everything that local does
    echo "$want" >"$venv/.installed-local"
fi
