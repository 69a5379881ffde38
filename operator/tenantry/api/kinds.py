"""All kinds of the API, in the order in which a reader meets them."""

from __future__ import annotations

from typing import Final

from tenantry.api import (
    backupstore,
    cluster,
    databaseserver,
    tenant,
    tenantbackup,
    tenantplan,
    tenantrecord,
    tenantrestore,
)
from tenantry.api.base import Kind

ALL_KINDS: Final[tuple[Kind, ...]] = (
    tenant.KIND,
    tenantplan.KIND,
    cluster.KIND,
    databaseserver.KIND,
    backupstore.KIND,
    tenantbackup.KIND,
    tenantrestore.KIND,
    tenantrecord.KIND,
)
