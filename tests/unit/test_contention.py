"""Who waits for what others have: all are looked at again when it is given back, once."""

from __future__ import annotations

from tenantry.api.resources import TENANTS, Ref
from tenantry.reconcile.contention import ROOM, Contention, hosts_on


def tenant(name: str) -> Ref:
    return Ref(TENANTS, "shop", name)


def test_all_who_wait_are_woken_once_and_those_for_something_else_are_not() -> None:
    contention, woken = Contention(), list[Ref]()
    for name, thing in (("b", hosts_on("eu")), ("a", hosts_on("eu")), ("c", hosts_on("us")), ("d", ROOM)):
        contention.wait(tenant(name), thing)
        contention.wait(tenant(name), thing)
    contention.freed(hosts_on("eu"), woken.append)
    assert woken == [tenant("a"), tenant("b")]
    contention.freed(hosts_on("eu"), woken.append)
    contention.freed(ROOM, woken.append)
    assert woken == [tenant("a"), tenant("b"), tenant("d")]
