"""The tenant's environment from the Secrets of its workspace: only labelled ones, only sound names."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.effective import Effective
from tenantry.api.names import LABEL_ENV_SECRET
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantplan import ENV_NAME_PATTERN, RESERVED_ENV
from tenantry.decide.effective import merged_env
from tenantry.decide.halt import Terminal, Waiting
from tenantry.ports import LiveObjects

_ENV_NAME = re.compile(ENV_NAME_PATTERN)


def gather_env(live: LiveObjects, tenant: Tenant, effective: Effective) -> dict[str, str]:
    """All that goes into `tenant-env`.

    Raises:
        Waiting: SecretNotFound.
        Terminal: EnvInvalid. Neither message has a value in it.
    """
    sources = []
    for source in tenant.spec.env_from:
        name = source.secret_ref.name
        secret = live.get(Ref(SECRETS, tenant.workspace, name))
        if secret is None or secret["metadata"].get("labels", {}).get(LABEL_ENV_SECRET) != "true":
            raise Waiting(
                ConditionType.SECRETS_READY,
                Reason.SECRET_NOT_FOUND,
                f'spec.envFrom: this workspace has no Secret {name!r} with the label {LABEL_ENV_SECRET}: "true"',
            )
        sources.append(_values(name, secret.get("data") or {}, effective))
    return merged_env(effective, sources, tenant.spec.env)


def _values(secret: str, data: Mapping[str, str], effective: Effective) -> dict[str, str]:
    values = {}
    for key, value in data.items():
        if not _ENV_NAME.match(key) or key.startswith(RESERVED_ENV):
            raise _invalid(secret, key, "is no name for an environment variable, or one that programs take orders from")
        if key in effective.limits:
            raise _invalid(secret, key, "is one of the tenant's limits; take it out of the Secret")
        try:
            values[key] = base64.b64decode(value).decode()
        except ValueError:
            raise _invalid(secret, key, "has a value that is no UTF-8 text") from None
    return values


def _invalid(secret: str, key: str, why: str) -> Terminal:
    return Terminal(
        ConditionType.SECRETS_READY, Reason.ENV_INVALID, f"spec.envFrom: key {key!r} of Secret {secret!r} {why}"
    )
