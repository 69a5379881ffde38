#!/usr/bin/env bash
# `make image`: the operator's image out of Containerfile, with podman, docker or buildah, whichever is there.
#
#   IMAGE         its name; default localhost/tenantry:dev
#   BASE          a Debian 13 to build on, and FORMER_BASE a Debian 12 for PostgreSQL's older programs: images of one's own
#   BUILDER       podman, docker or buildah
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

builder=${BUILDER:-}
for candidate in podman docker buildah; do
    if [[ -z $builder ]] && "$candidate" info >/dev/null 2>&1; then  # installed, and its engine answers
        builder=$candidate
    fi
done
if [[ -z $builder ]]; then
    echo "make image: needs podman, docker or buildah; on Debian or Ubuntu: apt-get install buildah" >&2
    exit 1
fi

arguments=(--tag "${IMAGE:-localhost/tenantry:dev}" --file Containerfile)
for name in BASE FORMER_BASE; do
    [[ -z ${!name:-} ]] || arguments+=(--build-arg "$name=${!name}")
done
"$builder" build "${arguments[@]}" .
