"""The shape of what is sent to an API server and of what comes back, checked here so that nobody else has to."""

from __future__ import annotations

import re
from typing import Any, Final

from tenantry.adapters.kube.answers import ForeignAnswerError, error_of_status, parse_object
from tenantry.api.resources import ACCESS_REVIEWS, RESOURCES_BY_KIND, Ref, Resource
from tenantry.ports.kube import InvalidError, UnreachableError, WatchEvent
from tenantry.ports.world import Json

_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:~-]+")
_EVENT_TYPES: Final = frozenset({"ADDED", "MODIFIED", "DELETED"})
_RESOURCES: Final = {**RESOURCES_BY_KIND, (ACCESS_REVIEWS.api_version, ACCESS_REVIEWS.kind): ACCESS_REVIEWS}


# --- what is sent ---------------------------------------------------------------------------------------------
def path_of(ref: Ref, subresource: str = "") -> str:
    """The URL path of one object.

    Raises:
        InvalidError: for a name or namespace that is missing (a DELETE would then mean the whole collection) or that
            would lead to another path.
    """
    namespaced = ref.resource.namespaced
    if not _NAME.fullmatch(ref.name) or (namespaced and not _NAME.fullmatch(ref.namespace)):
        raise InvalidError(f"{ref.resource.kind}: its name or namespace is missing or is no Kubernetes name")
    return ref.resource.path(ref.namespace, ref.name, subresource)


def collection_of(resource: Resource, namespace: str) -> str:
    """The URL path of all objects of a kind, in one namespace or (empty) in all.

    Raises:
        InvalidError: for a namespace that would lead to another path.
    """
    if namespace and not _NAME.fullmatch(namespace):
        raise InvalidError(f"{resource.kind}: its namespace is no Kubernetes name")
    return resource.path(namespace)


def ref_of(manifest: Json) -> Ref:
    """What a manifest is about; its name may be empty (reviews, generated names).

    Raises:
        InvalidError: if it is of a kind that Tenantry does not know, or lacks the namespace it needs.
    """
    metadata = manifest.get("metadata") or {}
    resource = _RESOURCES.get((manifest.get("apiVersion", ""), manifest.get("kind", "")))
    if resource is None:
        raise InvalidError(f"unknown kind {manifest.get('apiVersion')} {manifest.get('kind')}")
    namespace = metadata.get("namespace") or ""
    if resource.namespaced and not namespace:
        raise InvalidError(f"{resource.kind} {metadata.get('name')}: its namespace is missing")
    return Ref(resource, namespace if resource.namespaced else "", metadata.get("name") or "")


# --- what comes back ------------------------------------------------------------------------------------------
def foreign(what: str) -> UnreachableError:
    """The error for an answer that is not Kubernetes'."""
    return UnreachableError(f"the server answered with {what}: it is not a Kubernetes API server")


def parsed(answer: bytes) -> Json:
    """Any JSON object. Raises UnreachableError for anything else."""
    try:
        return parse_object(answer)
    except ForeignAnswerError as error:
        raise foreign(str(error)) from None


def checked(body: Any) -> Json:
    """A stored object: it has a name and a numeric resourceVersion. Raises UnreachableError for anything else."""
    if isinstance(body, dict) and isinstance(metadata := body.get("metadata"), dict):
        name = metadata.get("name")
        if isinstance(name, str) and name:
            checked_version(metadata)
            return body
    raise foreign("JSON that is not a Kubernetes object")


def checked_version(metadata: Json) -> str:
    """The resourceVersion of a list or an object: a decimal number since ever, by contract since Kubernetes 1.35."""
    version = metadata.get("resourceVersion")
    if not (isinstance(version, str) and version.isascii() and version.isdecimal() and len(version) <= 20):
        raise foreign("an object whose resourceVersion is not a number")
    return version


def event_of(line: bytes) -> WatchEvent:
    """One line of a watch, without managedFields.

    Raises:
        ExpiredError: for an ERROR event with 410.
        KubeError: the one that any other ERROR event stands for; UnreachableError for what is no event.
    """
    event = parsed(line)
    kind, body = event.get("type"), event.get("object")
    if not isinstance(kind, str) or not isinstance(body, dict):
        raise foreign("something that is no watch event")
    if kind == "ERROR":
        code = body.get("code")
        status = code if isinstance(code, int) else 500
        raise error_of_status(status, str(body.get("reason") or ""), str(body.get("message") or "the watch failed"))
    if kind == "BOOKMARK":
        checked_version(body.get("metadata") or {})
        return WatchEvent(kind, body)
    if kind not in _EVENT_TYPES:
        raise foreign("a watch event of unknown type")
    checked(body)["metadata"].pop("managedFields", None)
    return WatchEvent(kind, body)
