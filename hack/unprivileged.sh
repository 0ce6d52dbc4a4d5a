#!/usr/bin/env bash
# Runs demo and tests as a user without any rights, in a clone of its own, while other processes hold ports 80 and 5000.
# Needs root (to make the user and to take port 80) on a Debian-like Linux. Everything it makes is removed again.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" != 0 ] || [ "$(uname)" != Linux ]; then
    echo "hack/unprivileged.sh: needs root on Linux, to make a user and to take port 80" >&2
    exit 1
fi
if ! /usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
fi

home=$(mktemp -d /tmp/kaito-unprivileged.XXXXXX)
user=kaito-ci-$$
useradd --home-dir "$home" --no-create-home --shell /bin/bash "$user"

/usr/bin/python3 - <<'PYTHON' &
import socket, time
holders = []
for port in (80, 5000):
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError as error:
        print(f"port {port} is taken already, as wanted ({error.strerror})", flush=True)
        continue
    holder.listen()
    holders.append(holder)
time.sleep(3600)
PYTHON
holder=$!

cleanup() {
    kill "$holder" 2>/dev/null || true
    for pid in $(pgrep -u "$user" || true); do kill -9 "$pid" 2>/dev/null || true; done
    userdel "$user" 2>/dev/null || true
    rm -rf "$home"
}
trap cleanup EXIT

git clone --quiet . "$home/kaito"
chown -R "$user" "$home"
as_user() {
    env -i HOME="$home" USER="$user" PATH=/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 CI="${CI:-}" \
        $(env | grep -E '^(PIP_|UV_|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|HTTPS?_PROXY|https?_proxy|no_proxy|NO_PROXY)' | tr '\n' ' ') \
        setpriv --reuid "$user" --regid "$user" --clear-groups bash -c "cd $home/kaito && $1"
}
as_user "make demo </dev/null"
as_user "make test"

if left=$(pgrep -u "$user" -a); then
    echo "these processes were left behind:" >&2
    echo "$left" >&2
    exit 1
fi
