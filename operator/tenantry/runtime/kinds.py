"""Kinds that were deleted and installed again: kopf may go on without them, so its watches are begun anew."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from tenantry.api.resources import Resource
from tenantry.ports.world import Json

logger = logging.getLogger(__name__)

SERVED_SECONDS: Final = 3.0
"""From a kind being established until every API server lists it in its discovery, which kopf goes by."""


class RenewedKinds:
    """Sees a kind's definition come back under another UID, by the events of its CustomResourceDefinition.

    kopf looks at the discovery once an event of a definition; where that lags behind the last of them, it never watches
    the kind again (kopf 1.45, `process_discovered_resource_event`).

    Args:
        kinds: Whose definitions count.
        on_renewed: Called once the last of those that came back is served.
    """

    def __init__(self, kinds: Iterable[Resource], on_renewed: Callable[[], None]) -> None:
        self._names = frozenset(f"{kind.plural}.{kind.group}" for kind in kinds)
        self._on_renewed = on_renewed
        self._uids: dict[str, str] = {}
        self._soon: asyncio.TimerHandle | None = None

    def take(self, definition: Json) -> None:
        """Take in an event of any CustomResourceDefinition."""
        metadata = definition["metadata"]
        name = metadata["name"]
        if name not in self._names or "deletionTimestamp" in metadata or not _is_established(definition):
            return
        former = self._uids.get(name)
        self._uids[name] = metadata["uid"]
        if former in (None, metadata["uid"]):
            return
        logger.info("%s was installed again", name)
        if self._soon is not None:
            self._soon.cancel()
        self._soon = asyncio.get_running_loop().call_later(SERVED_SECONDS, self._on_renewed)


def _is_established(definition: Json) -> bool:
    conditions = (definition.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
