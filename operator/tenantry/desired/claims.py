"""Claims on a cluster, of a host or of all of it: ConfigMaps whose atomic creation decides who has it (rule 4)."""

from __future__ import annotations

from typing import Any

from tenantry.api.identity import TenantIdentity, host_claim_name
from tenantry.api.names import (
    ANNOTATION_HOST,
    CLAIM_CLUSTER,
    CLAIM_HOST,
    CLUSTER_CLAIM,
    LABEL_CLAIM,
    SYSTEM_NAMESPACE,
)
from tenantry.api.resources import CONFIG_MAPS
from tenantry.desired.stamp import stamped


def host_claim(identity: TenantIdentity, host: str) -> dict[str, Any]:
    """The claim of one host for one tenant."""
    return stamped(
        CONFIG_MAPS,
        identity,
        host_claim_name(host),
        namespace=SYSTEM_NAMESPACE,
        labels={LABEL_CLAIM: CLAIM_HOST},
        annotations={ANNOTATION_HOST: host},
    )


def cluster_claim(identity: TenantIdentity) -> dict[str, Any]:
    """The claim of the whole cluster for one tenant."""
    return stamped(
        CONFIG_MAPS,
        identity,
        CLUSTER_CLAIM,
        namespace=SYSTEM_NAMESPACE,
        labels={LABEL_CLAIM: CLAIM_CLUSTER},
    )
