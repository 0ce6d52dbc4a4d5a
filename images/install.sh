#!/bin/sh
# Runs in the build stage of every image: installs requirements.txt from the wheels beside it into /opt/kaito, without a network.
#
# The base needs no pip for that (a wheel of pip runs as it is), and none is left in the result. Modules are compiled here, because a
# read-only container would do so at every start (the operator's imports: 2.4 s instead of 0.9, for 18 MB), and in the form that
# holds no times, so that two builds agree. KAITO_NOT_COMPILED matches what is never imported. What does not compile is
# told on the standard error, which is all that a quiet build shows.
set -eu
wheels=$(dirname "$0")/wheelhouse
pip=$(echo "$wheels"/pip-*.whl)/pip
python3 -m venv --without-pip --symlinks /opt/kaito
/opt/kaito/bin/python "$pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps \
    --no-index --find-links "$wheels" --requirement "$wheels/requirements.txt"
rm -rf "$wheels"
rm -f /opt/kaito/bin/activate* /opt/kaito/bin/Activate.ps1 /opt/kaito/.gitignore
PYTHONHASHSEED=0 /opt/kaito/bin/python -m compileall -q -j 1 --invalidation-mode unchecked-hash \
    -x "${KAITO_NOT_COMPILED:-/nothing/}" /opt/kaito/lib >&2
