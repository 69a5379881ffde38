"""The operator's own way to the management cluster: kubeconfigs of every sort, and a pod's ServiceAccount."""

from __future__ import annotations

import asyncio
import base64
import json
import stat
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from tests.controlplane.access import ClusterAccess

from tenantry.adapters.kube.client import KubeClient
from tenantry.adapters.kube.management import (
    TOKEN_SECONDS,
    ManagementConfigError,
    RotatingToken,
    management_client,
)
from tenantry.ports.kube import UnauthorizedError, UnreachableError

Json = dict[str, Any]


async def version_and_close(client: KubeClient) -> str:
    try:
        return await client.version()
    finally:
        await client.close()


def user_token(access: ClusterAccess, namespace: str) -> str:
    config = json.loads(access.service_account_kubeconfig(namespace, "default"))
    token: str = config["users"][0]["user"]["token"]
    return token


def with_user(access: ClusterAccess, user: Json) -> str:
    config = json.loads(access.kubeconfig_for("x"))
    config["users"][0]["user"] = user
    return json.dumps(config)


async def test_a_kubeconfig_with_all_in_itself_is_used(management: ClusterAccess) -> None:
    client = await management_client(str(management.kubeconfig_path), environ={})
    assert (await version_and_close(client)).startswith("v1.")


async def test_kubeconfig_of_the_environment_is_used_where_no_other_is_given(management: ClusterAccess) -> None:
    client = await management_client(environ={"KUBECONFIG": str(management.kubeconfig_path)})
    assert (await version_and_close(client)).startswith("v1.")


async def test_files_beside_the_kubeconfig_are_read(management: ClusterAccess, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(user_token(management, namespace) + "\n")
    (tmp_path / "ca.crt").write_text(management.ca_pem)
    config = json.loads(with_user(management, {"tokenFile": "token"}))
    cluster = config["clusters"][0]["cluster"]
    del cluster["certificate-authority-data"]
    cluster["certificate-authority"] = "ca.crt"
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    assert (await version_and_close(await management_client(str(path), environ={}))).startswith("v1.")


async def test_an_exec_plugin_is_run_and_run_again_when_its_token_has_expired(
    management: ClusterAccess, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.adapters.kube.management.TOKEN_SECONDS", 0.0)
    credential = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": user_token(management, namespace), "expirationTimestamp": "2020-01-01T00:00:00Z"},
    }
    (tmp_path / "credential.json").write_text(json.dumps(credential))
    plugin = tmp_path / "plugin"
    plugin.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\ncat {tmp_path}/credential.json\n")
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    exec_config = {"apiVersion": credential["apiVersion"], "command": str(plugin), "interactiveMode": "Never"}
    path = tmp_path / "config"
    path.write_text(with_user(management, {"exec": exec_config}))
    client = await management_client(str(path), environ={})
    assert (await client.version()).startswith("v1.")
    before = (tmp_path / "runs").read_text().count("run")
    credential["status"] = {"token": "revoked", "expirationTimestamp": "2020-01-01T00:00:00Z"}
    (tmp_path / "credential.json").write_text(json.dumps(credential))
    with pytest.raises(UnauthorizedError):
        await version_and_close(client)
    assert (tmp_path / "runs").read_text().count("run") == before + 1


async def test_an_exec_plugin_that_fails_is_said(management: ClusterAccess, tmp_path: Path) -> None:
    exec_config = {"apiVersion": "client.authentication.k8s.io/v1", "command": "false", "interactiveMode": "Never"}
    path = tmp_path / "config"
    path.write_text(with_user(management, {"exec": exec_config}))
    with pytest.raises(ManagementConfigError, match="gives no credentials"):
        await management_client(str(path), environ={})


async def test_a_pods_service_account_is_used_and_its_token_read_anew(
    management: ClusterAccess, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.adapters.kube.management.TOKEN_SECONDS", 0.0)
    (tmp_path / "ca.crt").write_text(management.ca_pem)
    (tmp_path / "token").write_text("of yesterday")
    server = urllib.parse.urlsplit(management.server)
    environ = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port)}
    client = await management_client(environ=environ, service_account=tmp_path)
    with pytest.raises(UnauthorizedError):
        await client.version()
    (tmp_path / "token").write_text(user_token(management, namespace))
    assert (await version_and_close(client)).startswith("v1.")


async def test_a_rotating_token_is_read_once_a_minute_and_kept_when_the_file_is_gone(tmp_path: Path) -> None:
    now = 100.0
    path = tmp_path / "token"
    token = RotatingToken(path, lambda: now)
    with pytest.raises(UnreachableError, match="token can't be read"):
        await token()
    path.write_text("first\n")
    assert await token() == "Bearer first"
    path.write_text("second")
    assert await token() == "Bearer first"
    now += TOKEN_SECONDS
    assert await token() == "Bearer second"
    await asyncio.to_thread(path.unlink)
    now += TOKEN_SECONDS
    assert await token() == "Bearer second"


async def test_no_way_to_the_management_cluster_is_said(tmp_path: Path) -> None:
    with pytest.raises(ManagementConfigError, match="no --kubeconfig and no KUBECONFIG"):
        await management_client(environ={}, service_account=tmp_path)
    with pytest.raises(ManagementConfigError, match="there is no kubeconfig at"):
        await management_client(str(tmp_path / "absent"), environ={})
    broken = tmp_path / "broken"
    broken.write_text("a: [")
    with pytest.raises(ManagementConfigError, match="can't be loaded"):
        await management_client(str(broken), environ={})


async def test_a_client_certificate_in_the_kubeconfig_is_used(management: ClusterAccess, tmp_path: Path) -> None:
    assert management.authority is not None
    pair = management.authority.client("somebody")
    data = {
        "client-certificate-data": base64.b64encode(pair.certificate_pem.encode()).decode(),
        "client-key-data": base64.b64encode(pair.key_pem.encode()).decode(),
    }
    path = tmp_path / "config"
    path.write_text(with_user(management, data))
    assert (await version_and_close(await management_client(str(path), environ={}))).startswith("v1.")
