"""Secret `tenant-sync`: the token with which systems outside of the tenant's namespace prove who they are to it."""

from __future__ import annotations

from typing import Any, Final

from tenantry.api.identity import TenantIdentity
from tenantry.api.names import ANNOTATION_ROTATE_SYNC_TOKEN, ANNOTATION_ROTATED_AT, SECRET_SYNC
from tenantry.api.resources import SECRETS
from tenantry.decide.deletion import time_text
from tenantry.decide.synctoken import SyncToken
from tenantry.desired.encoding import encoded
from tenantry.desired.stamp import stamped

PREFIX: Final = "tenantry_sync_"
"""So that it is known for what it is where it should not be: in a log, in a repository."""
CURRENT_KEY: Final = "token"
PREVIOUS_KEY: Final = "previous"


def sync_secret(identity: TenantIdentity, namespace: str, token: SyncToken) -> dict[str, Any]:
    """The Secret: the token, and the former one as long as it is valid."""
    values = {CURRENT_KEY: token.value, **({PREVIOUS_KEY: token.previous} if token.previous else {})}
    marks = {
        ANNOTATION_ROTATED_AT: time_text(token.rotated_at) if token.rotated_at is not None else None,
        ANNOTATION_ROTATE_SYNC_TOKEN: token.handled,
    }
    return stamped(
        SECRETS,
        identity,
        SECRET_SYNC,
        namespace=namespace,
        annotations={name: value for name, value in marks.items() if value is not None},
        type="Opaque",
        data=encoded(values),
    )
