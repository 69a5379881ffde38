"""A database server of a tenant's own that CloudNativePG makes: its Cluster, and what that needs beside it."""

from __future__ import annotations

from typing import Any, Final

from tenantry.api.dedicated import CLOUDNATIVEPG, DedicatedServer, Operated
from tenantry.api.identity import TenantIdentity
from tenantry.api.names import (
    ANNOTATION_HIBERNATION,
    LABEL_INSTANCE_ROLE,
    LABEL_POSTGRES_CLUSTER,
    POSTGRES,
)
from tenantry.api.resources import CONFIG_MAPS, NETWORK_POLICIES, POSTGRES_CLUSTERS, SERVICES
from tenantry.desired.dedicated import (
    ADMIN_KEY,
    CERTIFICATE_KEYS,
    DATABASE_ID_KEY,
    HOST_RULES,
    LABELS,
    PORT,
    hosts_of,
    outside_objects,
)
from tenantry.desired.rbac import cloudnativepg_binding
from tenantry.desired.stamp import stamp_annotations, stamped

Json = dict[str, Any]

PROVIDER_KEY: Final = "provider"
SECRET_KEYS: Final = (ADMIN_KEY, *CERTIFICATE_KEYS)
"""The superuser's password is CloudNativePG's to make."""
SECRET_LABELS: Final = {"cnpg.io/reload": "true"}
"""Without it a changed certificate would be seen only when the instances start anew."""
SUPERUSER_SECRET: Final = f"{POSTGRES}-superuser"
SERVICE: Final = f"{POSTGRES}-rw"
INSTANCES: Final = {LABEL_POSTGRES_CLUSTER: POSTGRES}
"""Also of the pods that make an instance's files, which do not inherit labels in all of its versions."""
PRIMARY: Final = {**INSTANCES, LABEL_INSTANCE_ROLE: "primary"}
STATUS_PORT: Final = 8000
UNUSED: Final = "unused"
"""The database, and its owner, that CloudNativePG will not do without."""
GUARD: Final = (
    "DO $$ BEGIN IF (SELECT system_identifier::text FROM pg_control_system()) <> '{known}' "
    "THEN RAISE EXCEPTION 'DatabaseMissing: database {known} was here'; END IF; END $$"
)
"""Fails in files that were only just made."""


def certificate_hosts(namespace: str) -> list[str]:
    """All names that the server's certificate is for: CloudNativePG's own too."""
    return [*hosts_of(namespace), SERVICE, f"{SERVICE}.{namespace}", f"{SERVICE}.{namespace}.svc"]


def server_objects(server: DedicatedServer, identity: TenantIdentity, namespace: str) -> list[Json]:
    """What has to be there before the Cluster: which database it is, and the name that clients know."""
    ports = [{"name": "postgresql", "port": PORT, "protocol": "TCP", "targetPort": PORT}]
    return [
        stamped(
            CONFIG_MAPS,
            identity,
            POSTGRES,
            namespace=namespace,
            data={DATABASE_ID_KEY: server.database_id, PROVIDER_KEY: CLOUDNATIVEPG},
        ),
        stamped(
            SERVICES,
            identity,
            POSTGRES,
            namespace=namespace,
            labels=LABELS,
            spec={"type": "ClusterIP", "selector": PRIMARY, "ports": ports},
        ),
    ]


def open_objects(server: DedicatedServer, operated: Operated, identity: TenantIdentity, namespace: str) -> list[Json]:
    """What opens the tenant's network for a server that runs; within the namespace it is open."""
    if not server.running:
        return []
    manager = [{"protocol": "TCP", "port": port} for port in (PORT, STATUS_PORT)]
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operated.operator_namespace}}}
    policy = {
        "podSelector": {"matchLabels": INSTANCES},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [operator], "ports": manager}],
        "egress": [{"to": [{"ipBlock": {"cidr": cidr}} for cidr in operated.api_server_cidrs]}],
    }
    return [
        stamped(NETWORK_POLICIES, identity, POSTGRES, namespace=namespace, spec=policy),
        *outside_objects(server, identity, namespace, PRIMARY),
    ]


def kept_objects(identity: TenantIdentity, namespace: str) -> list[Json]:
    """The names of all of a server's objects, also where it can't be said how they should be: never to be pruned.

    Of the Cluster above all: with it CloudNativePG's volumes go.
    """
    named = (CONFIG_MAPS, SERVICES, POSTGRES_CLUSTERS)
    return [
        cloudnativepg_binding(identity, namespace),
        *(stamped(resource, identity, POSTGRES, namespace=namespace) for resource in named),
    ]


def postgres_cluster(server: DedicatedServer, operated: Operated, identity: TenantIdentity, namespace: str) -> Json:
    """CloudNativePG's Cluster. Its fields that are not here are CloudNativePG's to fill in.

    What it makes must not carry the labels of the stamp: those objects would then be ours to prune, and the admission
    policies would let nobody but us make them. It carries the annotations, which say whose it is.
    """
    resources = {"cpu": server.cpu, "memory": server.memory}
    spec = {
        "description": f"tenant {identity.tenant_id}",
        "instances": operated.instances,
        "imageName": server.image,
        "imagePullPolicy": server.pull_policy,
        "enablePDB": operated.instances > 1,  # of a single instance it would let no node be drained
        "enableSuperuserAccess": True,
        "inheritedMetadata": {"labels": dict(LABELS), "annotations": stamp_annotations(identity)},
        "bootstrap": {"initdb": _initdb(server)},
        "certificates": {"serverCASecret": POSTGRES, "serverTLSSecret": POSTGRES},
        "managed": {"services": {"disabledDefaultServices": ["ro", "r"]}},
        "monitoring": {"disableDefaultQueries": True},
        "postgresql": {"parameters": _parameters(server), "pg_hba": host_rules()},
        "resources": {"requests": resources, "limits": resources},
        "storage": {
            "size": server.storage,
            **({"storageClass": server.storage_class} if server.storage_class else {}),
        },
    }
    return stamped(
        POSTGRES_CLUSTERS,
        identity,
        POSTGRES,
        namespace=namespace,
        labels=LABELS,
        annotations={ANNOTATION_HIBERNATION: "off" if server.running else "on"},
        spec=spec,
    )


def host_rules() -> list[str]:
    """As of a server that we make ourselves; then nobody, for CloudNativePG's own last rule would let plain ones in."""
    lines = [line for line in HOST_RULES.splitlines() if line and not line.startswith("#")]
    return [*lines, "host all all all reject"]


def _parameters(server: DedicatedServer) -> dict[str, str]:
    return {
        "max_connections": str(server.max_connections),
        "shared_buffers": f"{server.shared_buffers}kB",
        "password_encryption": "scram-sha-256",
        "lc_messages": "C",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }


def _initdb(server: DedicatedServer) -> Json:
    """How the first instance's files are made; where there was a database, no other one is."""
    statements = [f"ALTER ROLE {UNUSED} NOLOGIN"]
    known = "".join(filter(str.isdecimal, server.database_id))
    if known:
        statements = [GUARD.replace("{known}", known)]
    return {
        "database": UNUSED,
        "owner": UNUSED,
        "dataChecksums": True,
        "encoding": "UTF8",
        "localeCollate": "C",
        "localeCType": "C",
        "postInitSQL": statements,
    }
