#!/bin/sh
# Makes and reuses .venv-models, where torch and transformers are: several gigabytes, so only `make test-models` needs it.
# Versions are those of constraints-models.txt. Uses the Python and the uv of .venv.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-models
stamp="$venv/.installed"
want=$(cat hack/models.in presets/pyproject.toml constraints-models.txt | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
echo "Installing torch and transformers into $venv" >&2
rm -rf "$venv"
.venv/bin/python -m venv --without-pip "$venv"
.venv/bin/uv pip install --quiet --python "$venv/bin/python" --constraint constraints-models.txt --requirement hack/models.in
echo "$want" >"$stamp"
