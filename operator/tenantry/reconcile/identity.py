"""The management id: random, made once, kept in a ConfigMap of the operator's namespace; all stamps carry it."""

from __future__ import annotations

from collections.abc import Callable

from tenantry.api.identity import MANAGEMENT_ID
from tenantry.api.names import IDENTITY_CONFIG_MAP, IDENTITY_KEY, LABEL_MANAGED_BY, MANAGED_BY
from tenantry.api.resources import CONFIG_MAPS, TENANT_RECORDS, Ref
from tenantry.ports import AlreadyExistsError, Json, Kube, NotFoundError


class IdentityError(Exception):
    """The operator can't say who it is, and must not guess: a wrong answer would take everything for foreign."""


async def management_id(kube: Kube, namespace: str, given: str | None, new_id: Callable[[], str]) -> str:
    """The management id: the given one, or the one that is kept, or on the very first start a new one.

    Raises:
        IdentityError: the given one is malformed or is not the one that is kept; or none is kept although
            TenantRecords say that there was one.
    """
    if given is not None and not MANAGEMENT_ID.match(given):
        raise IdentityError(f"--management-id {given!r}: use at most 63 lower-case letters, digits and dashes")
    kept = await _kept(kube, namespace)
    if kept is not None:
        if given is not None and given != kept:
            raise IdentityError(
                f"--management-id {given!r}: ConfigMap {namespace}/{IDENTITY_CONFIG_MAP} says {kept!r}; leave the flag "
                "out, or delete the ConfigMap if you are sure that nothing of that id is left"
            )
        return kept
    if given is None:
        await _check_first_start(kube)
    chosen = given or new_id()
    body: Json = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": IDENTITY_CONFIG_MAP, "namespace": namespace, "labels": {LABEL_MANAGED_BY: MANAGED_BY}},
        "data": {IDENTITY_KEY: chosen},
    }
    try:
        await kube.create(body)
    except AlreadyExistsError:
        return await _kept(kube, namespace) or chosen
    return chosen


async def _kept(kube: Kube, namespace: str) -> str | None:
    try:
        body = await kube.get(Ref(CONFIG_MAPS, namespace, IDENTITY_CONFIG_MAP))
    except NotFoundError:
        return None
    kept = (body.get("data") or {}).get(IDENTITY_KEY)
    return str(kept) if kept else None


async def _check_first_start(kube: Kube) -> None:
    """Records without an identity mean that the ConfigMap was lost, not that this is a new installation."""
    records = await kube.list(TENANT_RECORDS)
    ids = sorted({record["spec"]["managementId"] for record in records.items})
    if ids:
        raise IdentityError(
            f"ConfigMap {IDENTITY_CONFIG_MAP} is gone, but TenantRecords carry the management id {', '.join(ids)}; "
            f"start with --management-id {ids[0]}"
        )
