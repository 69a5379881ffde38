"""Whether what is installed is what this version brings: kinds, admission policies, rights. Judges; asks nobody."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from tenantry import __version__
from tenantry.api.names import OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE, VERSION
from tenantry.cli.findings import Area, Finding, notice, well, wrong
from tenantry.ports.kube import Access
from tenantry.ports.world import Json

MOST_NAMED: Final = 5
"""So many fields or rights are named in a message; of the rest it says how many there are."""

UPGRADE_KINDS: Final = (
    "install the kinds of this version: tenantry crds | kubectl apply --server-side -f - (or helm upgrade)"
)
USE_NEWER: Final = "use the tenantry command of the version that is installed"
APPLY_RIGHTS: Final = "kubectl apply --server-side -f deploy/management-rbac.yaml of this version (or helm upgrade)"


# --- kinds ----------------------------------------------------------------------------------------------------------
def of_kind(packaged: Json, live: Json | None) -> Finding:
    """What there is to say of one kind.

    Args:
        packaged: The CustomResourceDefinition that this version brings.
        live: The one that is installed; None where there is none.
    """
    name = packaged["metadata"]["name"]
    if live is None:
        return wrong(Area.KINDS, name, "the kind is not installed", UPGRADE_KINDS)
    if "deletionTimestamp" in live["metadata"]:
        return wrong(
            Area.KINDS,
            name,
            "the kind is being deleted, and every object of it",
            "docs/guides/deletion-by-mistake.md, before anything is confirmed",
        )
    conditions = {each["type"]: each for each in (live.get("status") or {}).get("conditions") or []}
    for condition in ("NamesAccepted", "Established"):
        if (state := conditions.get(condition, {})).get("status") != "True":
            told = state.get("message") or "the API server has not said so yet"
            return wrong(Area.KINDS, name, f"not {condition}: {told}", f"kubectl describe crd {name}")
    version = _version(live)
    if version is None or not version.get("served"):
        return wrong(Area.KINDS, name, f"version {VERSION} is not served", UPGRADE_KINDS)
    return _compared(name, _version(packaged) or {}, version)


def _compared(name: str, packaged: Json, live: Json) -> Finding:
    wanted, there = packaged["schema"]["openAPIV3Schema"], (live.get("schema") or {}).get("openAPIV3Schema") or {}
    ours, theirs = set(fields_of(wanted)), set(fields_of(there))
    missing, extra = sorted(ours - theirs), sorted(theirs - ours)
    if missing and extra:
        told = f"of another version than {__version__}: lacks {named(missing)}; has {named(extra)} beside"
        return wrong(Area.KINDS, name, told, UPGRADE_KINDS)
    if missing:
        return wrong(Area.KINDS, name, f"older than {__version__}: lacks {named(missing)}", UPGRADE_KINDS)
    if extra:
        return wrong(Area.KINDS, name, f"newer than this command ({__version__}): has {named(extra)}", USE_NEWER)
    if not includes(there, wanted):
        told = f"has the fields of {__version__}, but other rules or defaults"
        return wrong(Area.KINDS, name, told, UPGRADE_KINDS)
    return well(Area.KINDS, name, f"established, served, of {__version__}")


def _version(body: Json) -> Json | None:
    return next((each for each in body["spec"].get("versions", ()) if each["name"] == VERSION), None)


def fields_of(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all fields that a structural schema names, such as `spec.domains[].host`."""
    for name, inner in (schema.get("properties") or {}).items():
        below = f"{path}.{name}" if path else name
        yield below
        yield from fields_of(inner, below)
    if isinstance(items := schema.get("items"), Mapping):
        yield from fields_of(items, f"{path}[]")
    if isinstance(values := schema.get("additionalProperties"), Mapping):
        yield from fields_of(values, f"{path}.*")


def includes(live: Any, wanted: Any) -> bool:
    """Whether everything wanted is there as it is wanted; what the API server fills in beside it does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            includes(live.get(key), value) or (not value and key not in live) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(live, list)
            and len(live) == len(wanted)
            and all(includes(one, other) for one, other in zip(live, wanted, strict=True))
        )
    return bool(live == wanted)


def named(things: Collection[str]) -> str:
    """The first few of them, and how many more there are."""
    shown = ", ".join(list(things)[:MOST_NAMED])
    return shown + (f" and {len(things) - MOST_NAMED} more" if len(things) > MOST_NAMED else "")


# --- admission ------------------------------------------------------------------------------------------------------
def of_policy(packaged: Json, live: Json | None) -> Finding:
    """What there is to say of an admission policy or its binding."""
    what = f"{packaged['kind']} {packaged['metadata']['name']}"
    if live is None:
        return wrong(Area.ADMISSION, what, "is not there: what it holds is not held", APPLY_RIGHTS)
    if not includes(live["spec"], packaged["spec"]):
        return wrong(Area.ADMISSION, what, f"is not as {__version__} brings it", APPLY_RIGHTS)
    return well(Area.ADMISSION, what, f"as {__version__} brings it")


# --- rights ---------------------------------------------------------------------------------------------------------
def needed(manifests: Iterable[Json], namespace: str) -> list[Access]:
    """Every right that the operator's roles give it, one by one.

    Args:
        manifests: Of deploy/management-rbac.yaml.
        namespace: The operator's own.
    """
    bodies = list(manifests)
    roles = {
        (each["kind"], each["metadata"]["name"]): each for each in bodies if each["kind"] in ("ClusterRole", "Role")
    }
    found: list[Access] = []
    for binding in bound(bodies):
        role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
        where = namespace if binding["kind"] == "RoleBinding" else ""
        found += [access for rule in role["rules"] for access in _accesses(rule, where)]
    return list(dict.fromkeys(found))


def bound(manifests: Iterable[Json]) -> list[Json]:
    """The bindings that give the operator something."""
    return [
        each
        for each in manifests
        if each["kind"] in ("ClusterRoleBinding", "RoleBinding")
        and any(
            (one["kind"], one["name"]) == ("ServiceAccount", OPERATOR_SERVICE_ACCOUNT)
            for one in each.get("subjects") or ()
        )
    ]


def _accesses(rule: Json, namespace: str) -> Iterator[Access]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or ("",):
                    yield Access(verb, group, resource, namespace, name)


def review(access: Access, namespace: str) -> Json:
    """The SubjectAccessReview that asks whether the operator has a right."""
    plural, _, subresource = access.resource.partition("/")
    asked = {"verb": access.verb, "group": access.group, "resource": plural, "subresource": subresource}
    attributes = asked | {"namespace": access.namespace, "name": access.name}
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{OPERATOR_SERVICE_ACCOUNT}",
            "groups": ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"],
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
        },
    }


def of_rights(asked: int, missing: Collection[Access], namespace: str) -> Finding:
    """What the answers to all reviews come to."""
    what = f"ServiceAccount {namespace}/{OPERATOR_SERVICE_ACCOUNT}"
    if missing:
        told = f"lacks {len(missing)} of {asked} rights: {named([str(each) for each in missing])}"
        return wrong(Area.RIGHTS, what, told, APPLY_RIGHTS)
    return well(Area.RIGHTS, what, f"has all {asked} rights")


def of_right_object(packaged: Json, live: Json | None, *, sufficient: bool | None) -> Finding:
    """What there is to say of a role, a binding or the ServiceAccount.

    Args:
        packaged: As this version brings it.
        live: As it is there; None where it is not.
        sufficient: Whether the operator has all rights, whatever gives them; None where that could not be asked.
    """
    name = packaged["metadata"]["name"]
    what = f"{packaged['kind']} {name}"
    if live is None and sufficient and packaged["kind"] != "ServiceAccount":
        return notice(Area.RIGHTS, what, "is not there; something else gives the operator its rights")
    if live is None:
        return wrong(Area.RIGHTS, what, "is not there", APPLY_RIGHTS)
    if sufficient is None and not _gives(packaged, live):
        return wrong(Area.RIGHTS, what, f"gives less than that of {__version__}", APPLY_RIGHTS)
    return well(Area.RIGHTS, what, "is there")


def _gives(packaged: Json, live: Json) -> bool:
    """Whether a role has all rights of the packaged one, a binding its role and subject."""
    if "rules" in packaged:
        there = {access for rule in live.get("rules") or () for access in _accesses(_whole(rule), "")}
        return all(access in there for rule in packaged["rules"] for access in _accesses(rule, ""))
    if "roleRef" in packaged:
        return live["roleRef"] == packaged["roleRef"] and bool(bound([{**live, "kind": packaged["kind"]}]))
    return True


def _whole(rule: Json) -> Json:
    """A rule with all lists that one may lack."""
    return {"apiGroups": [], "resources": [], "verbs": [], **rule}


def placed(body: Json, namespace: str) -> Json:
    """A packaged manifest as it is where the operator has another namespace than the usual one."""
    metadata = body["metadata"]
    if metadata.get("namespace") != SYSTEM_NAMESPACE:
        return body
    return {**body, "metadata": {**metadata, "namespace": namespace}}
