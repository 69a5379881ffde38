"""How a decision says that a reconcile can't go on: what is wrong, whose turn it is, and when to look again."""

from __future__ import annotations

from tenantry.api.conditions import ConditionType, Reason


class Halt(Exception):  # noqa: N818 - a verdict on the object, not an error of ours
    """A reconcile, or one concern of it, ends here.

    Attributes:
        condition: Which condition tells it.
        message: For people: names the field or object, what is wrong with it, and the way out. No secrets.
    """

    def __init__(self, condition: ConditionType, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.condition = condition
        self.reason = reason
        self.message = message


class Terminal(Halt):
    """The user has to change something: Stalled; looked at again when something changes, and at resync."""


class Waiting(Halt):
    """Something else has to happen first: reconciled when it does.

    Attributes:
        retry_after: Seconds after which to look again in any case; None where an event is sure to come.
    """

    def __init__(
        self, condition: ConditionType, reason: Reason, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(condition, reason, message)
        self.retry_after = retry_after
