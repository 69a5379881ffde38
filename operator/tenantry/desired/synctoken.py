"""Secret `tenant-sync`: the token with which systems outside of the tenant's namespace prove who they are to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import SECRET_SYNC
from tenantry.api.resources import SECRETS
from tenantry.desired.encoding import encoded
from tenantry.desired.stamp import stamped

PREFIX: Final = "tenantry_sync_"
"""So that it is known for what it is where it should not be: in a log, in a repository."""
CURRENT_KEY: Final = "token"
PREVIOUS_KEY: Final = "previous"


def sync_secret(
    identity: TenantIdentity, namespace: str, value: str, previous: str, annotations: Mapping[str, str]
) -> dict[str, Any]:
    """The Secret: the token, and the former one as long as it is valid; empty where there is none."""
    values = {CURRENT_KEY: value, **({PREVIOUS_KEY: previous} if previous else {})}
    return stamped(
        SECRETS,
        identity,
        SECRET_SYNC,
        namespace=namespace,
        annotations=annotations,
        type="Opaque",
        data=encoded(values),
    )
