"""More that is broken off at each of its writes: moves, and what is done to databases on servers of tenants' own."""

from __future__ import annotations

from typing import Final

from tests.crash.backups import SAVED
from tests.crash.case import TENANT, Names
from tests.crash.looking import Json, Looking
from tests.crash.operations import (
    CREATE,
    DELETE,
    LONG_AGO,
    ON_SHARED,
    PURGE,
    ROTATE,
    USE,
    Act,
    Done,
    Operation,
    apply_to_management,
    first_spec,
    is_there,
)
from tests.crash.places import SECOND, SECOND_SERVER
from tests.scene.faulty import CLUSTER, SERVER
from tests.scene.lab import is_ready, tenant_body

from tenantry.api.names import ANNOTATION_APPROVE_MOVE, ANNOTATION_PURGE_AFTER, ANNOTATION_STATE, STATE_LEFT
from tenantry.api.resources import NAMESPACES

OWN: Final[Json] = {
    "mode": "Dedicated",
    "dedicated": {"version": "15", "size": "small", "storage": {"size": "1Gi"}},
    "extensions": ["citext"],
}


# --- moves --------------------------------------------------------------------------------------------------------
def _move(cluster: str, server: str, word: str) -> Act:
    """To a place, approved with the same stroke."""

    def act(looking: Looking, names: Names) -> None:
        database = {"mode": "Shared", "extensions": ["citext"], "shared": {"server": server}}
        spec = first_spec(names.case, placement={"cluster": cluster}, database=database)
        body = tenant_body(TENANT, names.case.workspace, **spec)
        body["metadata"]["annotations"] = {ANNOTATION_APPROVE_MOVE: word}
        apply_to_management(looking, body)

    return act


def _moved(word: str) -> Done:
    """It lives there, and what it has left is at rest."""

    def done(looking: Looking, names: Names) -> bool:
        tenant = looking.tenant(names)
        if tenant is None or not is_ready(tenant):
            return False
        move = tenant["status"].get("move") or {}
        over = (move.get("phase"), move.get("destination")) == ("Completed", word)
        return over and all(_is_marked(looking, side) for side in _former(looking, names))

    return done


def _former(looking: Looking, names: Names) -> list[Json]:
    """What moves have left."""
    return [side for record in looking.records(names) for side in record["spec"].get("former", ())]


def _is_marked(looking: Looking, side: Json) -> bool:
    """Whether its namespace says that it was left, and until when it is kept: that comes after the move."""
    if "cluster" not in side:
        return True
    place = next(each for each in looking.places if each.cluster == side["cluster"]["name"])
    body = place.api.get(NAMESPACES.path(name=side["cluster"]["namespace"])).body
    said = body.get("metadata", {}).get("annotations", {})
    return (said.get(ANNOTATION_STATE), said.get(ANNOTATION_PURGE_AFTER)) == (STATE_LEFT, side["purgeAfter"])


def _end_former(looking: Looking, names: Names) -> None:
    looking.end_former(names, LONG_AGO)


def _nothing_left(looking: Looking, names: Names) -> bool:
    """Only the place where it lives."""
    return is_there(looking, names) and not _former(looking, names)


_THERE: Final = f"{SECOND}/{SECOND_SERVER}"
_BACK: Final = f"{CLUSTER}/{SERVER}"

MOVE: Final = Operation("move", _move(SECOND, SECOND_SERVER, _THERE), _moved(_THERE), (CREATE, USE))
MOVE_CLUSTER: Final = Operation("move-cluster", _move(SECOND, SERVER, SECOND), _moved(SECOND), (CREATE, USE))
MOVE_SERVER: Final = Operation(
    "move-server", _move(CLUSTER, SECOND_SERVER, SECOND_SERVER), _moved(SECOND_SERVER), (CREATE, USE)
)
MOVE_BACK: Final = Operation("move-back", _move(CLUSTER, SERVER, _BACK), _moved(_BACK), (CREATE, USE, MOVE))
PURGE_LEFT: Final = Operation("purge-left", _end_former, _nothing_left, (CREATE, USE, MOVE))


# --- servers of tenants' own --------------------------------------------------------------------------------------
def _own(enabled: bool = True) -> Act:
    def act(looking: Looking, names: Names) -> None:
        spec = first_spec(names.case, database=OWN, enabled=enabled)
        apply_to_management(looking, tenant_body(TENANT, names.case.workspace, **spec))

    return act


def _on_own(name: str, act: Act, done: Done, *after: Operation) -> Operation:
    return Operation(f"own-{name}", act, done, after, own_server=True)


OWN_CREATE: Final = _on_own("create", _own(), is_there)
OWN_USE: Final = _on_own("use", USE.act, is_there, OWN_CREATE)
OWN_ROTATE: Final = _on_own("rotate", ROTATE.act, ROTATE.done, OWN_CREATE, OWN_USE)
OWN_DISABLE: Final = _on_own("disable", _own(enabled=False), is_there, OWN_CREATE, OWN_USE)
OWN_ENABLE: Final = _on_own("enable", _own(), is_there, OWN_CREATE, OWN_USE, OWN_DISABLE)
OWN_DELETE: Final = _on_own("delete", DELETE.act, DELETE.done, OWN_CREATE, OWN_USE)
OWN_UNDELETE: Final = _on_own("undelete", _own(), is_there, OWN_CREATE, OWN_USE, OWN_DELETE)
OWN_PURGE: Final = _on_own("purge", PURGE.act, PURGE.done, OWN_CREATE, OWN_USE, OWN_DELETE)

ELSEWHERE: Final = (MOVE, MOVE_CLUSTER, MOVE_SERVER, MOVE_BACK, PURGE_LEFT)
ON_OWN: Final = (OWN_CREATE, OWN_ROTATE, OWN_DISABLE, OWN_ENABLE, OWN_DELETE, OWN_UNDELETE, OWN_PURGE)
OPERATIONS: Final = {operation.name: operation for operation in (*ON_SHARED, *SAVED, *ELSEWHERE, *ON_OWN)}
"""All that a campaign breaks off."""
