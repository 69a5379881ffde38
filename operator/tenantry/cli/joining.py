"""The second half of `tenantry cluster join`: prepare the target, hand its kubeconfig to the operator, see it Ready."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tenantry.adapters.kube.addresses import AddressRefused
from tenantry.adapters.kube.client import connect
from tenantry.adapters.kube.kubeconfig import TargetCredentials
from tenantry.api.names import LABEL_JOINED_BY, OPERATOR_SERVICE_ACCOUNT, SYSTEM_NAMESPACE
from tenantry.api.resources import CLUSTERS, SECRETS, Ref
from tenantry.cli.manifests import TARGET_RIGHTS, bundled
from tenantry.cli.person import PersonClient
from tenantry.cli.planning import JoinError, Plan, asking, cluster_id, credentials_of
from tenantry.desired import joining
from tenantry.ports.kube import ForbiddenError, Kube, KubeError, UnauthorizedError, UnreachableError
from tenantry.ports.world import Json

TOKEN_SECONDS: Final = 30.0
"""How long the target may take to fill a token Secret; it is a matter of milliseconds."""
RIGHTS_SECONDS: Final = 10.0
"""How long rights and tokens that were just given may take to be known to every API server."""
STALLED_SECONDS: Final = 5.0
"""A Cluster that stays Stalled for so long will not get Ready by waiting."""
KNOCK_SECONDS: Final = 3.0
POLL: Final = 0.2


class Join:
    """One run of the command, after its plan.

    Args:
        say: Told of progress, in one line.
    """

    def __init__(self, plan: Plan, target: PersonClient, management: PersonClient, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._target = target
        self._management = management
        self._say = say
        self._here = f"the target ({target.server})"
        self._there = f"the management cluster ({management.server})"

    async def carry_out(self) -> Json:
        """Write it all, in an order in which every stop leaves a former kubeconfig working; the Cluster as it then is.

        Raises:
            JoinError: with what is wrong.
        """
        plan = self._plan
        with asking(self._here):
            for body in bundled(TARGET_RIGHTS):
                await self._target.put(joining.RIGHTS_KINDS[body["apiVersion"], body["kind"]], body)
            self._say("rights and admission policies are applied on the target")
            kept, token = await self._token(plan)
        text = plan.kubeconfig(token)
        await self._try(plan, kept, text)
        requested_at = datetime.now(UTC).isoformat()
        with asking(self._there):
            await self._management.put(SECRETS, plan.secret(text))
            self._say(f"the kubeconfig is in Secret {self._plan.order.namespace}/{plan.place[0]}")
            cluster = await plan.register(self._management, requested_at)
        if not self._plan.order.patience:
            self._say("not waiting for Ready; tokens of earlier joins are kept until a join sees it")
            return cluster
        cluster = await self._wait(requested_at if plan.existing is not None else None)
        if await self._still_ours(plan, text):
            with asking(self._here):
                await self._forget_former(plan, kept)
        return cluster

    async def _still_ours(self, plan: Plan, text: str) -> bool:
        """Whether nobody else joined meanwhile: what may look like a former token could be the one in use."""
        wanted = plan.secret(text)
        with asking(self._there):
            found = await self._management.get(Ref(SECRETS, plan.order.namespace, plan.place[0]))
        if found.get("data", {}).get(plan.place[1]) == wanted["data"][plan.place[1]]:
            return True
        self._say("somebody else joined this cluster meanwhile: former tokens are kept")
        return False

    async def _token(self, plan: Plan) -> tuple[str, str]:
        """The name of the token's Secret (empty where there is none), and the token."""
        if self._plan.order.token_seconds is not None:
            token, expires = await self._target.operator_token(self._plan.order.token_seconds)
            self._say(f"the token holds until {expires}: join again before that")
            return "", token
        name = f"{OPERATOR_SERVICE_ACCOUNT}-{secrets.token_hex(4)}"
        body = joining.token_secret(name, cluster=self._plan.order.name, joined_by=plan.joined_by)
        ref = Ref(SECRETS, SYSTEM_NAMESPACE, name)
        await self._target.create(body)
        deadline = time.monotonic() + TOKEN_SECONDS
        while not (data := (await self._target.get(ref)).get("data") or {}).get("token"):
            if time.monotonic() > deadline:
                await self._target.delete(ref)
                message = (
                    f"{self._here} did not fill Secret {name} within {TOKEN_SECONDS:g} s: is its token controller on?"
                )
                raise JoinError(message)
            await asyncio.sleep(POLL)
        self._say(f"the token is in Secret {SYSTEM_NAMESPACE}/{name} on the target")
        return name, base64.b64decode(data["token"]).decode()

    async def _try(self, plan: Plan, token_secret: str, text: str) -> None:
        """Dial with the new kubeconfig; a token that does not work is not left lying about."""
        try:
            await self._dial(credentials_of(text), plan.target_id)
        except JoinError:
            if token_secret:
                with contextlib.suppress(KubeError):
                    await self._target.delete(Ref(SECRETS, SYSTEM_NAMESPACE, token_secret))
            raise

    async def _dial(self, credentials: TargetCredentials, target_id: str) -> None:
        """Use the new kubeconfig once, as the operator will."""
        what = f"the target by its new kubeconfig ({credentials.server})"
        try:
            client = await connect(credentials, allow_loopback=True)
            try:
                found = await _patient_id(client)
            finally:
                await client.close()
        except AddressRefused as refused:
            raise JoinError(f"the operator would not dial it: {refused.message}") from None
        except UnreachableError as error:
            if self._plan.order.server is None or await _answers(credentials):
                raise JoinError(f"{what} can't be used: {error.message}") from None
            self._say(f"warning: {credentials.server} can't be tried from here: {error.message}")
            return
        except KubeError as error:
            raise JoinError(f"{what} refused: {error.message}") from None
        if found != target_id:
            raise JoinError(f"{what} is another cluster (id {found}) than {self._here}")

    async def _wait(self, requested_at: str | None) -> Json:
        """Until the operator says Ready; says each new thing that it says on the way."""
        order, told, stalled_since = self._plan.order, "", None
        end = time.monotonic() + order.patience
        while True:
            with asking(self._there):
                cluster = await self._management.get(Ref(CLUSTERS, "", order.name))
            state, now = joining.readiness(cluster, requested_at=requested_at), time.monotonic()
            if state.ready:
                return cluster
            if state.message != told:
                told = state.message
                self._say(f"waiting for Cluster {order.name}: {told}")
            stalled_since = (stalled_since or now) if state.stalled else None
            if now > end or (stalled_since is not None and now - stalled_since > STALLED_SECONDS):
                raise JoinError(f"Cluster {order.name!r} is registered but not Ready: {told}")
            await asyncio.sleep(POLL)

    async def _forget_former(self, plan: Plan, keep: str) -> None:
        """The tokens of earlier joins end now that the operator uses the new one."""
        listing = await self._target.list(
            SECRETS, namespace=SYSTEM_NAMESPACE, labels=f"{LABEL_JOINED_BY}={plan.joined_by}"
        )
        for body in listing.items:
            if joining.is_former_token(body, cluster=self._plan.order.name, keep=keep):
                metadata = body["metadata"]
                await self._target.delete(Ref(SECRETS, SYSTEM_NAMESPACE, metadata["name"]), uid=metadata["uid"])
                self._say(f"the former token, Secret {metadata['name']}, is deleted")


async def _answers(credentials: TargetCredentials) -> bool:
    """Whether anybody is there: a wrong certificate is wrong from everywhere, a private name is only unknown here."""
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(credentials.host, credentials.port)
    except OSError:  # TimeoutError is one
        return False
    writer.close()
    return True


async def _patient_id(kube: Kube) -> str:
    """The cluster's id; rights and tokens that are seconds old are given time."""
    deadline = time.monotonic() + RIGHTS_SECONDS
    while True:
        try:
            return await cluster_id(kube)
        except (ForbiddenError, UnauthorizedError):
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL)
