#!/usr/bin/env bash
# Debian's PostgreSQL, which the tests of TLS need: the wheel's has none. Installed where this is root, asked for elsewhere.
set -euo pipefail

there() { compgen -G '/usr/lib/postgresql/[0-9]*/bin/postgres' >/dev/null; }

if there; then
    exit 0
fi
if [[ $EUID -ne 0 ]] || ! command -v apt-get >/dev/null; then
    echo "The tests of TLS need PostgreSQL built with it, in /usr/lib/postgresql. On Debian or Ubuntu:" >&2
    echo "    sudo apt-get install postgresql" >&2
    echo "Everything else runs without: make fast, make check, make demo." >&2
    exit 1
fi
echo "installing Debian's PostgreSQL for the tests of TLS" >&2
export DEBIAN_FRONTEND=noninteractive
# The programs are wanted, and no server of the machine's own.
no_server=/etc/postgresql-common/createcluster.d/tenantry-tests.conf
mkdir -p "${no_server%/*}"
echo 'create_main_cluster = false' >"$no_server"
trap 'rm -f "$no_server"' EXIT
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql >/dev/null
there
