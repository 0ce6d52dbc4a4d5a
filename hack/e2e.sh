#!/bin/sh
# Tests KAITO in a real Kubernetes of one node: `hack/e2e.sh` (or `make test-e2e`), `hack/e2e.sh COMMAND…` runs something else there.
#
# Builds the programs (Go, once) and the images (buildah, on a debootstrapped base, once), then brings the cluster up in
# namespaces of its own. Linux, as root; what is missing is said first. docs/e2e.md says more.
set -eu
cd "$(dirname "$0")/.."
registry=localhost:5000/kaito

PYTHONPATH=tests
export PYTHONPATH
hack/venv.sh dev
.venv/bin/python -m cluster.prerequisites
hack/cluster/build.sh etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy pause >/dev/null
base=$(hack/images/debian-base.sh)
make --no-print-directory images REGISTRY=$registry BASE="$base" TOOL=buildah \
    IMAGES="operator puller runtime-mistralrs phi-3-mini-4k-instruct"

if [ $# -gt 0 ]; then
    exec .venv/bin/python -m cluster.enter .venv/bin/python -m cluster.up "$@"
fi
# shellcheck disable=SC2086 # several arguments are meant
exec .venv/bin/python -m cluster.enter .venv/bin/python -m pytest tests/cluster -x ${PYTEST_ARGS:-}
