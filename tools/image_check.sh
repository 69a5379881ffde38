#!/usr/bin/env bash
# `make image-check`: builds the image with buildah and runs it against real API servers and PostgreSQL.
#
# Needs root, buildah, and PostgreSQL of Debian (tools/postgres.sh). BASE and FORMER_BASE are as for tools/image.sh; without
# them both are made by debootstrap, with the certificates that this machine trusts beyond Debian's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    printf 'make image-check: %s\n' "$@" >&2
    exit 1
}

[[ $EUID -eq 0 ]] || fail "needs root: it mounts the image's root folder"
for program in buildah unshare; do
    command -v "$program" >/dev/null || fail "$program is missing; on Debian or Ubuntu: apt-get install buildah util-linux"
done
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

base_of() { # SUITE: the name of an image with a minimal Debian of this suite, made where there is none yet
    local suite=$1 name=localhost/tenantry-base:$1 folder container certificate
    if ! buildah inspect "$name" >/dev/null 2>&1; then
        command -v debootstrap >/dev/null || fail "BASE and FORMER_BASE, or debootstrap: apt-get install debootstrap"
        echo "making a minimal Debian ($suite), some minutes" >&2
        folder=$(mktemp -d)
        debootstrap --variant=minbase "$suite" "$folder/tree" >"$folder/log" 2>&1 || fail "$(tail -5 "$folder/log")"
        rm -rf "$folder"/tree/var/cache/apt/archives/*.deb
        for certificate in /usr/local/share/ca-certificates/*.crt; do
            [[ ! -e $certificate ]] || install -D -m 644 -t "$folder/tree/usr/local/share/ca-certificates" "$certificate"
        done
        container=$(buildah from scratch)
        buildah copy --quiet "$container" "$folder/tree" / >&2
        buildah commit --quiet --rm "$container" "$name" >&2
        rm -rf "$folder"
    fi
    echo "$name"
}

export BASE=${BASE:-$(base_of trixie)} FORMER_BASE=${FORMER_BASE:-$(base_of bookworm)} IMAGE=${IMAGE:-localhost/tenantry:dev}
BUILDER=buildah tools/image.sh
container=$(buildah from --pull-never "$IMAGE")
trap 'buildah rm "$container" >/dev/null' EXIT
.venv/bin/python -m tests.image "$(buildah mount "$container")"
