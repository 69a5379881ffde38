"""Calm lives: tenants that were made with one spec and left in peace, and how others differ from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from tests.crash.case import Names
from tests.crash.differing import State, difference
from tests.crash.looking import Looking
from tests.crash.operations import apply_tenant
from tests.model.specs import EXTENSIONS, Choice

from tenantry.api.names import ANNOTATION_ROTATE_CREDENTIALS, ANNOTATION_ROTATED_AT, SECRET_DATABASE
from tenantry.api.resources import DEPLOYMENTS, SECRETS, TENANT_RECORDS, TENANTS

_LOGIN: Final = re.compile(r"tenantry_HASH_[01]\b")
_ROTATIONS: Final = (ANNOTATION_ROTATE_CREDENTIALS, ANNOTATION_ROTATED_AT)
_OF_THE_PAST: Final = ("has_password", "rolvaliduntil")
"""What the login that is not in use may have kept of the time when it was."""


class CalmLives:
    """One calm life for each spec that was asked about, made when it is.

    Args:
        looking: Sees and does all, past the operator.
        open_case: Makes a workspace and a plan that are new.
        settle: Waits until a tenant is Ready.
    """

    def __init__(self, looking: Looking, open_case: Callable[[], Names], settle: Callable[[Names], None]) -> None:
        self._looking = looking
        self._open_case = open_case
        self._settle = settle
        self._lives: dict[tuple[Choice, ...], Names] = {}

    def differences(self, names: Names, choice: Choice) -> list[str]:
        """How a tenant differs now from one in peace with this spec, in words; empty when it does not.

        One that is switched off has what it had before: as one that never was in use, or as one that was.
        """
        lives = [(choice,)] if choice.enabled else [(choice,), (replace(choice, enabled=True), choice)]
        found = self._all_of(names, choice)
        return min((difference(self._all_of(self._of(life), choice), found) for life in lives), key=len)

    def _of(self, life: tuple[Choice, ...]) -> Names:
        """The one who had these specs, one after the other, and the last one now."""
        if life not in self._lives:
            names = self._open_case()
            for choice in life:
                apply_tenant(self._looking, names.case, choice.spec(names.case))
                self._settle(names)
            self._lives[life] = names
        return self._lives[life]

    def _all_of(self, names: Names, choice: Choice) -> State:
        """All but what a longer life may show: how often it rotated, what it ran, how it was to be deleted."""
        looking = self._looking
        text = json.dumps({**looking.state(names), **looking.inside(names)}, sort_keys=True)
        used = looking.secret(names, SECRET_DATABASE).get("username", "")
        slot = f"tenantry_HASH_{used[-1:]}"
        text = _LOGIN.sub(lambda found: "LOGIN" if found[0] == slot else "FORMER", text)
        found: dict[str, Any] = json.loads(text)
        for key, entry in found.items():
            if key.startswith("inside "):  # what once was asked for is never dropped: a table may need it
                once = EXTENSIONS - set(choice.extensions)
                entry["extensions"] = [each for each in entry["extensions"] if each.partition(" ")[0] not in once]
        return {key: _plain(key, entry) for key, entry in found.items() if not key.startswith(DEPLOYMENTS.kind)}


def _plain(key: str, entry: Any) -> Any:
    kind = key.partition(" ")[0]
    if key == "role FORMER":
        return {name: value for name, value in entry.items() if name not in _OF_THE_PAST}
    if kind in ("database", "role", "inside"):
        kept = {name: value for name, value in entry.items() if name not in ("used", "canary")}
        return {name: sorted(value) if isinstance(value, list) else value for name, value in kept.items()}
    if kind == TENANTS.kind:
        spec = {name: value for name, value in entry["spec"].items() if name != "deletion"}
        return {**entry, "spec": spec, "metadata": _without_requests(entry["metadata"])}
    if kind == TENANT_RECORDS.kind:
        # Which generation it was, is a count of edits; how it is to be deleted, the last thing that was asked for.
        spec = {name: value for name, value in entry["spec"].items() if name not in ("deletion", "lastGeneration")}
        spec["lastSpec"] = {name: value for name, value in spec.get("lastSpec", {}).items() if name != "deletion"}
        return {**entry, "spec": spec}
    if kind == SECRETS.kind:
        return {**entry, "metadata": _without_requests(entry["metadata"])}
    return entry


def _without_requests(metadata: dict[str, Any]) -> dict[str, Any]:
    annotations = metadata.get("annotations") or {}
    return {**metadata, "annotations": {name: value for name, value in annotations.items() if name not in _ROTATIONS}}
