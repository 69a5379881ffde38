"""What of a target's answers counts against the target."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from tests.unit.fake_time import FakeTime

from tenantry.adapters.breaker import Breaker, BreakerState
from tenantry.adapters.kube.guarded import GuardedKube
from tenantry.ports.kube import Kube, NotFoundError, UnreachableError

WEBHOOK = 'Internal error occurred: failed calling webhook "mcluster.cnpg.io": no endpoints available'


class Answers:
    """An API server that answers every apply in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def apply(self, _body: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (UnreachableError("no answer"), BreakerState.OPEN),
        (UnreachableError("etcd has no leader", status=500), BreakerState.OPEN),
        (UnreachableError("too many requests", status=429), BreakerState.CLOSED),
        (UnreachableError(WEBHOOK, status=500, reason="InternalError"), BreakerState.CLOSED),
        (NotFoundError("not there", status=404), BreakerState.CLOSED),
    ],
    ids=str,
)
def test_only_what_the_api_server_itself_does_not_answer_opens_the_breaker(
    error: Exception, state: BreakerState
) -> None:
    breaker = Breaker(clock=FakeTime())
    guarded = GuardedKube(cast("Kube", Answers(error)), breaker)
    for _ in range(5):
        with pytest.raises(type(error)):
            asyncio.run(guarded.apply({}))
    assert breaker.state is state
