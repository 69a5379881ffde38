"""The client of the management cluster, as the operator's own identity: trusted, in a pod or from a kubeconfig."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.kubeconfig import TargetCredentials, parse_kubeconfig
from tenantry.adapters.kube.refusal import KubeconfigRefused
from tenantry.adapters.kube.tls import client_context
from tenantry.adapters.kube.transport import NOBODY_SPECIAL, REQUEST_SECONDS, Caller, OnRequest, Transport
from tenantry.ports.kube import UnreachableError

SERVICE_ACCOUNT_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS: Final = 60.0
"""How long a token is used before it is asked for anew: kubelet renews the file long before the old one ends."""

_ToTransport = Callable[..., Transport]
"""`Transport` with what is the same however the server is reached."""


class ManagementConfigError(Exception):
    """There is no usable way to the management cluster; the message says what was looked for."""


async def management_client(
    kubeconfig: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT_FOLDER,
    on_request: OnRequest | None = None,
    caller: Caller = NOBODY_SPECIAL,
    seconds: float = REQUEST_SECONDS,
) -> KubeClient:
    """A client for the management cluster: `kubeconfig` if given, else the pod's ServiceAccount, else KUBECONFIG.

    Args:
        kubeconfig: Path of a file, or several with colons between them.
        environ: Where KUBERNETES_SERVICE_HOST and _PORT and KUBECONFIG are read.
        service_account: The folder with `token` and `ca.crt`.
        on_request: For metrics.
        caller: Who asks.
        seconds: Deadline of a request.

    Raises:
        ManagementConfigError: if there is none of them, or it can't be loaded.
    """
    transport = partial(Transport, on_request=on_request, caller=caller, seconds=seconds)
    host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
    if not kubeconfig and host and port and (service_account / "token").is_file():
        return _in_cluster(host, port, service_account, transport)
    paths = kubeconfig or environ.get("KUBECONFIG")
    if not paths:
        message = "no management cluster: not in a pod, no --kubeconfig and no KUBECONFIG"
        raise ManagementConfigError(message)
    credentials = _plain(paths)
    return _simple(credentials, transport) if credentials else await _official(paths, transport)


def _in_cluster(host: str, port: str, folder: Path, transport: _ToTransport) -> KubeClient:
    try:
        tls = client_context((folder / "ca.crt").read_bytes())
    except (OSError, UnreachableError) as error:
        raise ManagementConfigError(f"the ServiceAccount's ca.crt can't be used: {error}") from None
    server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    token = RotatingToken(folder / "token", time.monotonic)
    return KubeClient(transport(server, tls=tls, authorization=token))


class RotatingToken:
    """The bearer token of a file that somebody else renews: read again once a minute.

    Args:
        path: The file.
        monotonic: Seconds.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._value: str | None = None
        self._until = 0.0

    async def __call__(self) -> str:
        """The Authorization header. Raises UnreachableError if the file was never readable."""
        if self._value is None or self._monotonic() >= self._until:
            try:
                token = self._path.read_text().strip()  # a file in memory, of one or two KiB
            except OSError as error:
                if self._value is None:
                    raise UnreachableError(f"the ServiceAccount's token can't be read: {error.strerror}") from None
            else:
                self._value = f"Bearer {token}" if token or self._value is None else self._value
            self._until = self._monotonic() + TOKEN_SECONDS
        return self._value or ""


def _plain(paths: str) -> TargetCredentials | None:
    """The credentials of a kubeconfig that has them all in itself; None for one that needs files or programs.

    Most are like that, and the official loader costs 22 MiB and most of a second to import.
    """
    try:
        return parse_kubeconfig(Path(paths).expanduser().read_bytes(), now=datetime.now(UTC))
    except (KubeconfigRefused, OSError):
        return None


def _simple(credentials: TargetCredentials, transport: _ToTransport) -> KubeClient:
    try:
        tls = client_context(credentials.ca_pem, credentials.client_certificate_pem, credentials.client_key_pem)
    except UnreachableError as error:
        raise ManagementConfigError(error.message) from None
    return KubeClient(
        transport(
            credentials.server,
            tls=tls,
            server_name=credentials.tls_server_name,
            authorization=f"Bearer {credentials.token}" if credentials.token else None,
        )
    )


async def _official(paths: str, transport: _ToTransport) -> KubeClient:
    """Whatever the official loader understands: exec plugins, auth providers, files, proxies."""
    # Imported here: only few installations need it, and it is big.
    from kubernetes.aio.client import Configuration  # noqa: PLC0415 - see above
    from kubernetes.aio.config import load_kube_config  # noqa: PLC0415 - see above

    _check_there(paths)
    configuration = Configuration()
    load: Any = load_kube_config  # untyped
    try:
        loader = await load(config_file=paths, client_configuration=configuration, persist_config=False)
        tls = _official_tls(configuration) if configuration.host.startswith("https") else None
    except Exception as error:  # the loader raises whatever its parsers, files and plugins do
        raise ManagementConfigError(f"the kubeconfig {paths} can't be loaded: {error}") from error
    if tls and not configuration.api_key and not configuration.cert_file:
        raise ManagementConfigError(f"the kubeconfig {paths} gives no credentials (an exec plugin that failed?)")
    return KubeClient(
        transport(
            configuration.host.rstrip("/"),
            tls=tls,
            server_name=configuration.tls_server_name,
            authorization=LoaderToken(loader, configuration, time.monotonic),
            proxy=configuration.proxy,
        )
    )


def _check_there(paths: str) -> None:
    """The loader merges the files that are there; it takes none at all for an empty one, and trips over it later."""
    files = [Path(path).expanduser() for path in paths.split(os.pathsep) if path]
    if not any(file.is_file() for file in files):
        raise ManagementConfigError(f"there is no kubeconfig at {paths}")


def _official_tls(configuration: Any) -> ssl.SSLContext:
    # Not create_default_context: from Python 3.13 on it refuses certificates that kubectl and API servers live with.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if configuration.ssl_ca_cert:
        context.load_verify_locations(cafile=configuration.ssl_ca_cert)
    else:
        context.load_default_certs()
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class LoaderToken:
    """The Authorization header as the official loader has it: it runs an exec plugin again once its token has expired.

    Args:
        loader: What `load_kube_config` returned.
        configuration: What it has filled in.
        monotonic: Seconds.
    """

    def __init__(self, loader: Any, configuration: Any, monotonic: Callable[[], float]) -> None:
        self._loader = loader
        self._configuration = configuration
        self._monotonic = monotonic
        self._until = monotonic() + TOKEN_SECONDS

    async def __call__(self) -> str | None:
        """The header; None where a client certificate is all there is."""
        if self._monotonic() >= self._until:
            # First, so that requests beside this one go on with the old token instead of running the plugin too.
            self._until = self._monotonic() + TOKEN_SECONDS
            try:
                await self._loader.load_and_set(self._configuration)
            except Exception as error:  # noqa: BLE001 - whatever its parsers, files and plugins raise
                message = f"the kubeconfig's credentials can't be renewed: {type(error).__name__}"
                raise UnreachableError(message) from None
        token: str | None = self._configuration.api_key.get("BearerToken")
        return token.strip() if token else None
