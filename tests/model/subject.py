"""Subject: what the model knows of one tenant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tests.crash.case import Names
from tests.model.specs import Choice

from tenantry.api.tenantrecord import RecordState

NOTHING: Final = "nothing"
UNSURE: Final = "unsure"
"""It was deleted before anybody saw it made: there may be something of it, or not."""
DELETED: Final = RecordState.DELETED.value
RETAINED: Final = RecordState.RETAINED.value


@dataclass
class Subject:
    """One tenant.

    Attributes:
        choice: The spec that was applied last; None while there is no Tenant.
        left: What a Tenant that is gone has left: nothing, UNSURE, or the state of its record.
        made: It was seen Ready since there was nothing of it.
        deployed: Its workload was made in the namespace that there is.
        rows: What its application has written.
    """

    names: Names
    choice: Choice | None = None
    left: str = NOTHING
    made: bool = False
    deployed: bool = False
    rows: list[str] = field(default_factory=list)

    def settled(self) -> None:
        """It was seen Ready."""
        self.made, self.left = True, NOTHING

    def gone(self, policy: str, window: str) -> None:
        """Its Tenant was deleted with these words."""
        self.choice = None
        if window == "0s" and policy == "Delete":
            self.forget()
        elif self.made:
            self.left = RETAINED if policy == "Retain" else DELETED
        else:
            self.left = UNSURE

    def forget(self) -> None:
        """It is destroyed, with all that was in it."""
        self.left, self.made, self.deployed, self.rows = NOTHING, False, False, []
