#!/bin/sh
# Builds what is missing of the real control plane and prints the folders of the kubectl releases beside it, joined with ':'
# (the tests read them from KAITO_TEST_KUBECTLS). A kubectl/MINOR/kubectl in KUBEBUILDER_ASSETS comes before a built one.
set -eu
out=$("$(dirname "$0")/build.sh")
all=
for modfile in "$(dirname "$0")"/kubectl/*.mod; do
    minor=$(basename "$modfile" .mod)
    for folder in ${KUBEBUILDER_ASSETS:+"$KUBEBUILDER_ASSETS"} "$out"; do
        if [ -x "$folder/kubectl/$minor/kubectl" ]; then
            all=${all:+$all:}$folder/kubectl/$minor
            break
        fi
    done
done
echo "$all"
