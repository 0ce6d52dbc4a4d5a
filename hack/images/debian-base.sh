#!/bin/sh
# Makes a base image for the Dockerfiles in images/ where no image hub can be reached: a small Debian with Python, put together
# by debootstrap. Prints the image's name, for `make images BASE=…`.
#
# Release and mirror are those that this machine's apt uses (KAITO_DEBIAN_SUITE and KAITO_DEBIAN_MIRROR beat them); neither is
# written into the image. KAITO_DEBIAN_PACKAGES: more packages for it, with commas between (runtime-vllm: gcc,python3-dev). The file
# tree is kept under ${XDG_CACHE_HOME:-~/.cache}/kaito/images, named by the release, the packages and the checksum of this script:
# delete it to get what Debian has fixed since. TOOL=buildah (the default) or docker imports it. Linux, as root.
set -eu
tool=${TOOL:-buildah}
self=$0

say() { echo "hack/images/debian-base.sh: $*" >&2; }
[ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ] || { say "needs root on Linux"; exit 1; }
for program in debootstrap "$tool"; do
    command -v "$program" >/dev/null || PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || {
        say "$program is missing (Debian, Ubuntu: apt-get install $program)"
        exit 1
    }
done

# The machine's own sources, in either of apt's formats: "mirror suite", the first entry that is no security or updates suite.
apt_source() {
    apt-get indextargets --format '$(SITE) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
        awk '$2 !~ /-/ && /debian/ {print $1, $2; exit}'
}
source=$(apt_source)
suite=${KAITO_DEBIAN_SUITE:-${source#* }}
mirror=${KAITO_DEBIAN_MIRROR:-${source%% *}}
[ -n "$suite" ] && [ -n "$mirror" ] || {
    say "apt names no Debian mirror; set KAITO_DEBIAN_MIRROR and KAITO_DEBIAN_SUITE"
    exit 1
}

packages=python3,ca-certificates${KAITO_DEBIAN_PACKAGES:+,$KAITO_DEBIAN_PACKAGES}
key=$suite-$(dpkg --print-architecture)-$({ cat "$self"; echo "$packages"; } | cksum | cut -d ' ' -f 1)
image=localhost/kaito-base:$key
cache=${XDG_CACHE_HOME:-$HOME/.cache}/kaito/images
tar=$cache/base-$key.tar

if ! [ -f "$tar" ]; then
    say "making a Debian $suite with Python (about a minute)"
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/base.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    root=$work/root
    PATH=$PATH:/usr/sbin debootstrap --variant=minbase --include="$packages" "$suite" "$root" "$mirror" >"$work/log" 2>&1 || {
        tail -n 20 "$work/log" >&2
        exit 1
    }
    # What a container never reads, and what tells of this machine or this minute.
    rm -rf "$root"/usr/share/doc/* "$root"/usr/share/man/* "$root"/usr/share/locale/* "$root"/usr/share/info/* \
        "$root"/var/cache/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/dev/* "$root"/proc/* "$root"/sys/* \
        "$root"/run/* "$root"/tmp/* "$root"/etc/apt/sources.list "$root"/etc/resolv.conf "$root"/etc/hostname \
        "$root"/etc/machine-id "$root"/var/lib/dpkg/*-old "$root"/var/lib/systemd "$root"/var/lib/dbus
    : >"$root/etc/machine-id"
    # Compiled modules that stay valid whatever becomes of the files' times: a read-only container can never write better ones.
    find "$root/usr" -name __pycache__ -type d -prune -exec rm -rf {} +
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONHASHSEED=0 chroot "$root" /usr/bin/python3 -m compileall -q -j 1 \
        --invalidation-mode unchecked-hash -x '/(test|idlelib|lib2to3|distutils|tkinter|ensurepip)/' /usr/lib/python3 /usr/lib/python3.*
    tar --create --file "$work/root.tar" --directory "$root" --sort=name --numeric-owner --mtime=@1 .
    mv "$work/root.tar" "$tar"
fi

exists() {
    case $tool in
    buildah) buildah inspect --type image "$image" ;;
    *) "$tool" image inspect "$image" ;;
    esac >/dev/null 2>&1
}
if ! exists; then
    case $tool in
    buildah)
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$tar" / >/dev/null
        buildah config --cmd /bin/sh --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
        buildah commit --quiet --rm --timestamp 1 "$container" "$image" >&2
        ;;
    *) "$tool" import --change 'CMD ["/bin/sh"]' "$tar" "$image" >&2 ;;
    esac
fi
echo "$image"
