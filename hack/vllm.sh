#!/bin/sh
# Makes and reuses .venv-vllm: vLLM on a CPU, with which its flags are read (hack/vllm/flags.py) and `make test-vllm` runs.
# vLLM's own wheels compute on NVIDIA GPUs alone. hack/vllm/requirements.txt names a rebuild of the same sources for CPUs, made by
# others: it serves tests, and nothing that is delivered. gcc and readelf (binutils) are needed for the stand-ins of CUDA's libraries.
set -eu
cd "$(dirname "$0")/.."
venv=.venv-vllm
stamp="$venv/.installed"
want=$(cat hack/vllm/*.txt hack/vllm/stand_ins.py presets/pyproject.toml | cksum)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
echo "Installing vLLM for the CPU into $venv" >&2
rm -rf "$venv"
.venv/bin/python -m venv --without-pip "$venv"
.venv/bin/uv pip install --quiet --python "$venv/bin/python" --requirement hack/vllm/requirements.txt --override hack/vllm/overrides.txt
"$venv/bin/python" hack/vllm/stand_ins.py
echo "$want" >"$stamp"
