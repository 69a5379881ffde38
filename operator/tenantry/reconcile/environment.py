"""The tenant's environment from the Secrets of its workspace: only labelled ones, only sound names."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.effective import Effective
from tenantry.api.names import LABEL_ENV_SECRET
from tenantry.api.proxy import PROXY_NAMES
from tenantry.api.resources import SECRETS, Ref
from tenantry.api.tenant import Tenant
from tenantry.api.tenantplan import ENV_NAME_PATTERN, RESERVED_ENV
from tenantry.decide.effective import merged_env
from tenantry.decide.halt import Terminal, Waiting
from tenantry.decide.proxy import check_url, proxy_env
from tenantry.ports.kube import LiveObjects

_ENV_NAME = re.compile(ENV_NAME_PATTERN)


def gather_env(live: LiveObjects, tenant: Tenant, effective: Effective, namespace: str) -> dict[str, str]:
    """All that goes into `tenant-env`.

    Args:
        live: What the watches on the management cluster have seen.
        tenant: Whose it is.
        effective: Plan and spec together.
        namespace: The tenant's on its target.

    Raises:
        Waiting: SecretNotFound.
        Terminal: EnvInvalid. Neither message has a value in it.
    """
    sources = []
    for source in tenant.spec.env_from:
        name = source.secret_ref.name
        sources.append(_values(name, _labelled(live, tenant, name, "spec.envFrom"), effective))
    return {**merged_env(effective, sources, tenant.spec.env), **_proxy(live, tenant, effective, namespace)}


def _labelled(live: LiveObjects, tenant: Tenant, name: str, field: str) -> Mapping[str, str]:
    """The data of a Secret of the workspace that tenants may have."""
    secret = live.get(Ref(SECRETS, tenant.workspace, name))
    if secret is None or secret["metadata"].get("labels", {}).get(LABEL_ENV_SECRET) != "true":
        raise Waiting(
            ConditionType.SECRETS_READY,
            Reason.SECRET_NOT_FOUND,
            f'{field}: this workspace has no Secret {name!r} with the label {LABEL_ENV_SECRET}: "true"',
        )
    data: Mapping[str, str] = secret.get("data") or {}
    return data


def _proxy(live: LiveObjects, tenant: Tenant, effective: Effective, namespace: str) -> dict[str, str]:
    """What the proxy adds; nothing without one."""
    proxy = tenant.spec.proxy
    if proxy is None:
        return {}
    field, name, key = "spec.proxy.httpSecretRef", proxy.http_secret_ref.name, proxy.http_secret_ref.key
    data = _labelled(live, tenant, name, field)
    if key not in data:
        raise Waiting(
            ConditionType.SECRETS_READY,
            Reason.SECRET_NOT_FOUND,
            f"{field}: Secret {name!r} has no key {key!r}; put the proxy's URL there, or set {field}.key",
        )
    limits = sorted(set(PROXY_NAMES) & effective.limits.keys())
    if limits:
        raise Terminal(
            ConditionType.SECRETS_READY,
            Reason.ENV_INVALID,
            f"spec.proxy sets {limits[0]}, which is one of the tenant's limits; take it out of the plan, or take proxy "
            "out of the spec",
        )
    try:
        url = check_url(base64.b64decode(data[key]).decode())
    except UnicodeDecodeError:
        raise _no_url(field, name, key, "is no UTF-8 text") from None
    except ValueError as error:
        raise _no_url(field, name, key, str(error)) from None
    return proxy_env(url, proxy.no_proxy, namespace)


def _no_url(field: str, secret: str, key: str, why: str) -> Terminal:
    return Terminal(
        ConditionType.SECRETS_READY,
        Reason.ENV_INVALID,
        f"{field}: key {key!r} of Secret {secret!r} has to be the URL of a proxy, such as "
        f"http://proxy.example.com:3128, and {why}",
    )


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
