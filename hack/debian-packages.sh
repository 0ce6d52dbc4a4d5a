#!/bin/sh
# Sees to Debian packages: `hack/debian-packages.sh NAME…` installs those that are missing when it runs as root on Debian
# or Ubuntu, and otherwise says which are missing and how to get them. Nothing that it installs is started.
set -eu

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "hack/debian-packages.sh: this system has no dpkg. Needed are what Debian calls: $*" >&2
    exit 1
fi

missing=""
for name in "$@"; do
    status=$(dpkg-query -W -f '${Status}' "$name" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $name"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "hack/debian-packages.sh: missing are:$missing. As root: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

# Some packages start a service when they are installed, which a build machine does not want: this policy refuses that.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' INT TERM HUP
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet >&2
# shellcheck disable=SC2086 # names hold no spaces
apt-get install --yes --quiet --quiet --no-install-recommends $missing >&2
