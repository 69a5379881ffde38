"""Moving: whether a tenant's spec means another place than it has, and what is to be done about that next."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from tenantry.api.conditions import ConditionType, Reason
from tenantry.api.move import MovePhase
from tenantry.api.names import ANNOTATION_APPROVE_MOVE
from tenantry.api.tenantrecord import (
    FormerSide,
    Move,
    PinnedCluster,
    PinnedDatabase,
    RecordState,
    TenantRecordSpec,
)
from tenantry.decide.halt import Terminal

MOST_SIDES: Final = 16
"""Sides that may wait for their purge: who moves to and fro more often waits for the windows to end."""
MOVABLE: Final = ("Shared", "None", "External")
"""Modes of databases that are not in the tenant's namespace."""
_EPOCH: Final = re.compile(r"_e(\d{1,9})$")
MAJOR: Final = 10000
"""Of `server_version_num`: 150018 is a 15."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a tenant is to move: the names of what changes; None for what stays."""

    cluster: str | None = None
    server: str | None = None

    @property
    def word(self) -> str:
        """The value of the annotation that approves it: `<cluster>`, `<server>` or `<cluster>/<server>`."""
        return "/".join(name for name in (self.cluster, self.server) if name)

    @property
    def nowhere(self) -> bool:
        """The tenant is where it is meant to be."""
        return self.cluster is None and self.server is None


class Step(StrEnum):
    """What a pass does about a move."""

    STAY = "stay"
    ASK = "ask"
    """Nobody has approved it."""
    TELL_FAILURE = "tell failure"
    """It failed, and was not approved anew since."""
    FORGET_FAILURE = "forget failure"
    """The approval of what failed was taken back: the next one counts."""
    BEGIN = "begin"
    GO_ON = "go on"
    ROLL_BACK = "roll back"


def next_step(wanted: Destination, approval: str | None, move: Move | None, failed: str) -> Step:
    """What to do next.

    Args:
        wanted: Where the spec says that the tenant is to be; with a move under way, compared with where that started.
        approval: The annotation's value.
        move: What is under way.
        failed: Why the last move was rolled back; empty where it was not.
    """
    if move is not None:
        if move.phase == MovePhase.SWITCHED or (wanted.word == move.destination == approval):
            return Step.GO_ON
        return Step.ROLL_BACK
    approved = not wanted.nowhere and approval == wanted.word
    if failed:
        return Step.TELL_FAILURE if approved else Step.FORGET_FAILURE
    if wanted.nowhere:
        return Step.STAY
    return Step.BEGIN if approved else Step.ASK


def not_approved(wanted: Destination, cluster: str, server: str, given: str | None) -> Terminal:
    """What is told of a move that nobody has approved.

    Args:
        wanted: Where to.
        cluster: Where the tenant lives.
        server: Where its database is; empty where it is on none of ours.
        given: The annotation's value, if it has one.
    """
    ways, does = [], []
    if wanted.cluster is not None:
        ways.append(f"from Cluster {cluster!r} to {wanted.cluster!r}")
        does.append("makes a new namespace there, into which you deploy (workloads and volumes are not moved)")
    if wanted.server is not None:
        ways.append(f"from DatabaseServer {server!r} to {wanted.server!r}")
    stops = "stops all pods and sessions"
    does.append(f"{stops}, copies the database" if wanted.server is not None else f"{stops}, renews the login")
    wrong = f" (it says {given!r})" if given else ""
    return Terminal(
        ConditionType.PLACED,
        Reason.MOVE_NOT_APPROVED,
        f"this would move the tenant {' and '.join(ways)}: it {', '.join(does)} and keeps the old side for the "
        f"deletion window. To approve it, annotate the Tenant with {ANNOTATION_APPROVE_MOVE}={wanted.word}{wrong}; or "
        "set the spec back. Until then it is served where it is",
    )


def check_mode(mode: str) -> None:
    """That a tenant with a database of a mode can be moved: nothing of it may be in the namespace that is left.

    Raises:
        Terminal: MoveNotSupported.
    """
    if mode not in MOVABLE:
        raise Terminal(
            ConditionType.PLACED,
            Reason.MOVE_NOT_SUPPORTED,
            f"a tenant whose database has mode {mode} can't be moved yet, for its data would stay behind; set the spec "
            "back",
        )


def check_versions(old: int, new: int, server: str) -> None:
    """That a database may go from one version of PostgreSQL to another, both as `server_version_num`.

    Raises:
        Terminal: MoveNotSupported.
    """
    if new // MAJOR < old // MAJOR:
        raise Terminal(
            ConditionType.PLACED,
            Reason.MOVE_NOT_SUPPORTED,
            f"spec.database.shared.server: {server!r} has PostgreSQL {new // MAJOR}, and this tenant's data comes from "
            f"{old // MAJOR}, which can't be taken back to an older one; choose a server that is as new or newer",
        )


def switched(spec: TenantRecordSpec, now: str, purge_after: str) -> dict[str, Any]:
    """The change of a record that makes the new side the tenant's: the one write that can't be taken back."""
    move = spec.move
    if move is None:
        return {}
    restore = move.restore
    returns_to = restore.returns_to if restore is not None else None
    left = FormerSide(
        epoch=spec.epoch,
        cluster=spec.cluster if move.cluster is not None else None,
        database=spec.database if move.database is not None else None,
        left_at=now,
        purge_after=purge_after,
        restore=restore.uid if restore is not None and returns_to is None else None,
    )
    stay = [side for side in spec.former if side.epoch != returns_to]
    change: dict[str, Any] = {"epoch": move.epoch, "move": {"phase": MovePhase.SWITCHED.value}}
    if move.cluster is not None:
        change["cluster"] = _plain(move.cluster)
    if move.database is not None:
        change["database"] = _plain(move.database)
    return {**change, "former": [_plain(side) for side in (*stay, left)]}


def rolled_back(spec: TenantRecordSpec, now: str, failed: str = "") -> dict[str, Any]:
    """The change of a record that ends its move: nothing else than the old side is left to it.

    What was made of the new side goes at once: nothing was ever written there. Of a move that was switched nothing is
    rolled back, it is only no longer looked at.
    """
    move = spec.move
    if move is None:
        return {}
    change: dict[str, Any] = {"move": None}
    goes_back = move.restore is not None and move.restore.returns_to is not None
    if move.phase == MovePhase.SWITCHED or goes_back:  # what an undo goes back to was left, and is kept as that
        return change
    made = FormerSide(
        epoch=move.epoch,
        state=RecordState.PURGING,
        cluster=move.cluster,
        database=move.database,
        left_at=now,
        purge_after=now,
    )
    if failed:
        change["moveFailed"] = failed[:1024]
    return {**change, "former": [_plain(side) for side in (*spec.former, made)]}


def next_epoch(spec: TenantRecordSpec) -> int:
    """The epoch of a new side: higher than that of everything that there is of the tenant."""
    return max(spec.epoch, *(side.epoch for side in spec.former), 1) + 1


def still_on(spec: TenantRecordSpec, cluster: str, gone: Collection[int]) -> bool:
    """Whether a tenant has something on a cluster, or is about to have, beside what it left in these epochs."""
    places = [spec.cluster, *(side.cluster for side in spec.former if side.epoch not in gone)]
    if spec.move is not None:
        places.append(spec.move.cluster)
    return any(place is not None and place.name == cluster for place in places)


def repinned(spec: TenantRecordSpec, kind: Literal["cluster", "database"], name: str, identity: str) -> dict[str, Any]:
    """The change of a record after which a Cluster's or DatabaseServer's name stands for another one.

    Wherever it is named: where the tenant lives, where it is moving to, and where moves have left something.

    Args:
        spec: The record's.
        kind: Which of the two it is.
        name: Of the Cluster or DatabaseServer.
        identity: The id that it has now.

    Returns:
        Empty where the record says so already, or does not name it.
    """

    def is_other(pinned: PinnedCluster | PinnedDatabase | None) -> bool:
        named = pinned.server if isinstance(pinned, PinnedDatabase) else pinned.name if pinned is not None else ""
        return pinned is not None and named == name and pinned.id != identity

    change: dict[str, Any] = {}
    if is_other(getattr(spec, kind)):
        change[kind] = {"id": identity}
    if spec.move is not None and is_other(getattr(spec.move, kind)):
        change["move"] = {kind: {"id": identity}}
    if any(is_other(getattr(side, kind)) for side in spec.former):
        sides = [_plain(side) for side in spec.former]
        for side, plain in zip(spec.former, sides, strict=True):
            if is_other(getattr(side, kind)):
                plain[kind]["id"] = identity
        change["former"] = sides
    return change


def left_behind(side: FormerSide) -> str:
    """What a move has left and where, for people."""
    parts = []
    if side.cluster is not None:
        parts.append(f"namespace {side.cluster.namespace} on Cluster {side.cluster.name} (id {side.cluster.id})")
    if side.database is not None and side.database.server:
        pinned = side.database
        parts.append(f"database {pinned.name} on DatabaseServer {pinned.server} (id {pinned.id})")
    return " and ".join(parts) or "nothing"


def epoch_of_database(name: str) -> int:
    """The epoch in a database's name: `tenantry_<hash>` or `tenantry_<hash>_e<epoch>`."""
    match = _EPOCH.search(name)
    return int(match[1]) if match else 1


def home_rank(state: str, epoch: int, *, due: bool) -> tuple[int, int]:
    """Which of several databases of one tenant is the one it lives on, where no record says so: the greatest.

    One that is open is; else one that was parked for a move, without a time: then what is being made is a copy that
    is not complete. Of the rest the one of the highest epoch.

    Args:
        state: Of the claim.
        epoch: Of the database.
        due: Its purge has a time.
    """
    ranks = {"ready": 3, "parked": 1 if due else 2, "creating": 1}
    return ranks.get(state, 0), epoch


def side_spec(spec: TenantRecordSpec, side: FormerSide) -> TenantRecordSpec:
    """A record as if it were only that of a side that was left, for the steps that bring it to rest and take it down.

    Where the side has no namespace or no database of its own, those are of no concern: see `reconcile.former`.
    """
    nothing = spec.database.model_copy(update={"mode": "None", "server": "", "id": "", "name": ""})
    return spec.model_copy(
        update={
            "epoch": side.epoch,
            "state": side.state,
            "cluster": side.cluster or spec.cluster,
            "database": side.database or nothing,
            "deleted_at": side.left_at,
            "purge_after": side.purge_after,
            "move": None,
            "former": [],
        }
    )


def arriving_spec(spec: TenantRecordSpec, move: Move) -> TenantRecordSpec:
    """A record as if the tenant lived on the new side already, for the steps that make it."""
    return spec.model_copy(
        update={
            "epoch": move.epoch,
            "cluster": move.cluster or spec.cluster,
            "database": move.database or spec.database,
            "move": None,
        }
    )


def _plain(model: Any) -> dict[str, Any]:
    plain: dict[str, Any] = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return plain
