"""A database server of a tenant's own: its StatefulSet, Services, settings and passwords."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from tenantry.api.dedicated import DedicatedServer
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_SETTINGS,
    COMPONENT_POSTGRES,
    LABEL_COMPONENT,
    POSTGRES,
    POSTGRES_OUTSIDE,
    POSTGRES_PODS,
)
from tenantry.api.resources import CONFIG_MAPS, NETWORK_POLICIES, SECRETS, SERVICES, STATEFUL_SETS, VOLUME_CLAIMS
from tenantry.desired.encoding import encoded
from tenantry.desired.stamp import stamp_labels, stamped

Json = dict[str, Any]

PORT: Final = 5432
SUPERUSER: Final = "postgres"
ADMIN: Final = "tenantry_admin"
SUPERUSER_KEY: Final = "superuser-password"
ADMIN_KEY: Final = "admin-password"
CA_KEY: Final = "ca.crt"
CERTIFICATE_KEYS: Final = (CA_KEY, "tls.crt", "tls.key")
SECRET_KEYS: Final = (SUPERUSER_KEY, ADMIN_KEY, *CERTIFICATE_KEYS)
DATABASE_ID_KEY: Final = "database-id"
CONFIG: Final = "/etc/tenantry/config"
PASSWORDS: Final = "/etc/tenantry/passwords"
VOLUME: Final = "/var/lib/tenantry"
TERMINATION_LOG: Final = "/dev/termination-log"
LABELS: Final = {LABEL_COMPONENT: COMPONENT_POSTGRES}
STOP_SECONDS: Final = 120
SELECTOR_OTHERS: Final = {
    "matchExpressions": [{"key": LABEL_COMPONENT, "operator": "NotIn", "values": [COMPONENT_POSTGRES]}]
}
"""All pods but the server's."""

START: Final = """\
# Starts the server. Where nothing ever was on the volume, its files are made first: beside their place, then renamed,
# so that whoever is killed in between finds all or nothing. More arguments go to postgres.
set -eu
umask 077
data=$TENANTRY_VOLUME/pgdata
password=$TENANTRY_PASSWORDS/superuser-password
expected=$(cat "$TENANTRY_CONFIG/database-id")

refuse() {
  printf '%s' "$1" > "$TENANTRY_MESSAGE"
  printf '%s\\n' "$1" >&2
  exit 1
}

if [ ! -s "$data/PG_VERSION" ]; then
  [ -z "$expected" ] || refuse "DatabaseMissing: the volume is empty, and database $expected was on it"
  [ ! -e "$data" ] || refuse "DatabaseDamaged: the volume has a folder pgdata without PG_VERSION"
  rm -rf "$TENANTRY_VOLUME/new" "$TENANTRY_VOLUME/password.sum"
  initdb -D "$TENANTRY_VOLUME/new" --username=postgres --pwfile="$password" --auth=scram-sha-256 --encoding=UTF8 \\
    --locale=C --data-checksums
  mv "$TENANTRY_VOLUME/new" "$data"
  sync
fi

if [ -n "$expected" ]; then
  found=$(LC_ALL=C pg_controldata -D "$data" | sed -n 's/^Database system identifier: *//p')
  [ "$found" = "$expected" ] || refuse "DatabaseMissing: the volume has database $found, and $expected was on it"
fi

# A Secret that was lost and made anew has another password: the superuser gets it before anybody can connect.
sum=$(cksum < "$password")
if [ "$sum" != "$(cat "$TENANTRY_VOLUME/password.sum" 2>/dev/null || true)" ]; then
  printf "ALTER ROLE postgres PASSWORD '%s';\\n" "$(cat "$password")" |
    postgres --single -D "$data" -c log_statement=none postgres > /dev/null
  printf '%s' "$sum" > "$TENANTRY_VOLUME/password.sum.new"
  mv "$TENANTRY_VOLUME/password.sum.new" "$TENANTRY_VOLUME/password.sum"
fi

exec postgres -D "$data" -c config_file="$TENANTRY_CONFIG/postgresql.conf" \\
  -c hba_file="$TENANTRY_CONFIG/pg_hba.conf" -c ssl_cert_file="$TENANTRY_PASSWORDS/tls.crt" \\
  -c ssl_key_file="$TENANTRY_PASSWORDS/tls.key" "$@"
"""

HOST_RULES: Final = f"""\
# The superuser and the operator's role come in from within the pod only: by way of the API server's port-forward. All
# others come with TLS.
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
host all {SUPERUSER},{ADMIN} all reject
hostssl all all all scram-sha-256
"""


def passwords_secret(
    identity: TenantIdentity,
    namespace: str,
    *,
    superuser: str,
    admin: str,
    certificate: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
) -> Json:
    """The passwords and the certificate that the server is made with: made once, and never changed by an apply.

    Args:
        identity: Whose they are.
        namespace: The tenant's.
        superuser: A password; empty where somebody else makes it.
        admin: A password.
        certificate: By `CERTIFICATE_KEYS`, PEM.
        labels: Beside the stamp.
    """
    own = {SUPERUSER_KEY: superuser} if superuser else {}
    return stamped(
        SECRETS,
        identity,
        POSTGRES,
        namespace=namespace,
        labels=labels,
        type="Opaque",
        data=encoded({**own, ADMIN_KEY: admin, **certificate}),
    )


def is_whole(secret: Mapping[str, Any] | None, keys: Iterable[str] = SECRET_KEYS) -> bool:
    """Whether a live Secret has all that the server mounts: without it no pod would start."""
    data = (secret or {}).get("data") or {}
    return all(data.get(key) for key in keys)


def host_of(namespace: str) -> str:
    """The name under which the tenant's pods reach the server."""
    return f"{POSTGRES}.{namespace}.svc"


def hosts_of(namespace: str) -> list[str]:
    """All names that the server's certificate is for."""
    return [host_of(namespace), f"{POSTGRES}.{namespace}", POSTGRES, f"{host_of(namespace)}.cluster.local"]


def server_objects(server: DedicatedServer, identity: TenantIdentity, namespace: str) -> list[Json]:
    """The settings and Services: all that has to be there before the StatefulSet, but for the passwords."""
    ports = [{"name": "postgresql", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
    common = {"selector": LABELS, "ports": ports, "type": "ClusterIP"}
    return [
        stamped(
            CONFIG_MAPS,
            identity,
            POSTGRES,
            namespace=namespace,
            data={**_settings(server), DATABASE_ID_KEY: server.database_id},
        ),
        stamped(SERVICES, identity, POSTGRES, namespace=namespace, labels=LABELS, spec=common),
        stamped(
            SERVICES,
            identity,
            POSTGRES_PODS,
            namespace=namespace,
            labels=LABELS,
            spec={**common, "clusterIP": "None", "publishNotReadyAddresses": True},
        ),
    ]


def outside_objects(
    server: DedicatedServer, identity: TenantIdentity, namespace: str, selector: Mapping[str, str] = LABELS
) -> list[Json]:
    """The way in from outside of the cluster, for those that the tenant names; nothing where there is to be none.

    Args:
        server: Who is let in.
        identity: Whose it is.
        namespace: The tenant's.
        selector: The labels of the pods that they get to.
    """
    if not server.outside or not server.running:
        return []
    service = {
        "type": "LoadBalancer",
        "selector": dict(selector),
        "ports": [{"name": "postgresql", "port": PORT, "protocol": "TCP", "targetPort": PORT}],
        "loadBalancerSourceRanges": list(server.outside),
        "externalTrafficPolicy": "Local",  # else the policy would see the nodes' addresses
        "allocateLoadBalancerNodePorts": server.node_ports,
    }
    rule = {
        "from": [{"ipBlock": {"cidr": cidr}} for cidr in server.outside],
        "ports": [{"protocol": "TCP", "port": PORT}],
    }
    policy = {"podSelector": {"matchLabels": dict(selector)}, "policyTypes": ["Ingress"], "ingress": [rule]}
    return [
        stamped(NETWORK_POLICIES, identity, POSTGRES_OUTSIDE, namespace=namespace, spec=policy),
        stamped(SERVICES, identity, POSTGRES_OUTSIDE, namespace=namespace, labels=LABELS, spec=service),
    ]


def kept_objects(identity: TenantIdentity, namespace: str) -> list[Json]:
    """The names of all of a server's objects, also where it can't be said how they should be: never to be pruned."""
    named = ((CONFIG_MAPS, POSTGRES), (SERVICES, POSTGRES), (SERVICES, POSTGRES_PODS), (STATEFUL_SETS, POSTGRES))
    return [stamped(resource, identity, name, namespace=namespace) for resource, name in named]


def stateful_set(server: DedicatedServer, identity: TenantIdentity, namespace: str) -> Json:
    """The StatefulSet. What it deletes never takes the volume along (rule 1)."""
    claim = {
        "apiVersion": VOLUME_CLAIMS.api_version,
        "kind": VOLUME_CLAIMS.kind,
        "metadata": {"name": "data", "labels": {**LABELS, **stamp_labels(identity)}},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": server.storage}},
            **({"storageClassName": server.storage_class} if server.storage_class else {}),
        },
    }
    digest = hashlib.sha256(repr(sorted(_settings(server).items())).encode()).hexdigest()[:16]
    spec = {
        "replicas": 1 if server.running else 0,
        "serviceName": POSTGRES_PODS,
        "selector": {"matchLabels": LABELS},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "template": {
            "metadata": {"labels": LABELS, "annotations": {ANNOTATION_SETTINGS: digest}},
            "spec": _pod(server),
        },
        "volumeClaimTemplates": [claim],
    }
    return stamped(STATEFUL_SETS, identity, POSTGRES, namespace=namespace, labels=LABELS, spec=spec)


def _settings(server: DedicatedServer) -> dict[str, str]:
    lines = {
        "listen_addresses": "'*'",
        "port": str(PORT),
        "unix_socket_directories": "''",
        "max_connections": str(server.max_connections),
        "shared_buffers": f"'{server.shared_buffers}kB'",
        "password_encryption": "'scram-sha-256'",
        "ssl": "on",
        "lc_messages": "'C'",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
    }
    text = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return {"start.sh": START, "pg_hba.conf": HOST_RULES, "postgresql.conf": text}


def _pod(server: DedicatedServer) -> Json:
    mounted = (SUPERUSER_KEY, "tls.crt", "tls.key")  # the other password is the operator's alone
    passwords = [{"key": key, "path": key} for key in mounted]
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": STOP_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": server.user,
            "runAsGroup": server.user,
            "fsGroup": server.user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(server)],
        "volumes": [
            {"name": "config", "configMap": {"name": POSTGRES}},
            {"name": "passwords", "secret": {"secretName": POSTGRES, "defaultMode": 0o440, "items": passwords}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _container(server: DedicatedServer) -> Json:
    answers = ["pg_isready", "--quiet", "--host=127.0.0.1", f"--port={PORT}"]
    # A server that recovers refuses sessions and lives: who ends it then only makes it begin anew.
    lives = ["sh", "-c", f"{' '.join(answers)}; [ $? -le 1 ]"]
    resources = {"cpu": server.cpu, "memory": server.memory}
    return {
        "name": "postgres",
        "image": server.image,
        "imagePullPolicy": server.pull_policy,
        "command": ["sh", f"{CONFIG}/start.sh"],
        "env": [
            {"name": "TENANTRY_CONFIG", "value": CONFIG},
            {"name": "TENANTRY_PASSWORDS", "value": PASSWORDS},
            {"name": "TENANTRY_VOLUME", "value": VOLUME},
            {"name": "TENANTRY_MESSAGE", "value": TERMINATION_LOG},
        ],
        "ports": [{"name": "postgresql", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": resources, "limits": resources},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe(lives, periodSeconds=5, failureThreshold=120),
        "livenessProbe": _probe(lives, periodSeconds=20, failureThreshold=6),
        "readinessProbe": _probe(answers, periodSeconds=5, failureThreshold=3),
        # SIGTERM would wait for every client to leave by itself.
        "lifecycle": {
            "preStop": {"exec": {"command": ["pg_ctl", "stop", "-D", f"{VOLUME}/pgdata", "-m", "fast", "-W"]}}
        },
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG, "readOnly": True},
            {"name": "passwords", "mountPath": PASSWORDS, "readOnly": True},
            {"name": "data", "mountPath": VOLUME},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - the container's own
        ],
    }


def _probe(command: list[str], **times: int) -> Json:
    return {"exec": {"command": command}, "timeoutSeconds": 5, **times}
