"""A Cluster whose kubeconfig is bad, or leads nowhere good: what exactly it says, and that it heals when corrected."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.controlplane.access import ClusterAccess
from tests.controlplane.certificates import Authority
from tests.controlplane.processes import HeldPort
from tests.integration.impostor import Impostor
from tests.integration.registering import Registrar, changed_kubeconfig
from tests.integration.tenants import condition
from tests.scene.installation import install_management, operator_kubeconfig
from tests.scene.operator import OperatorProcess
from tests.scene.stage import CLUSTER, platform_manifest

if TYPE_CHECKING:
    from tests.integration.conftest import FreshControlPlane
    from tests.integration.tenants import Workbench

Json = dict[str, Any]
Make = Callable[[ClusterAccess], str | bytes]

JOIN = "make a kubeconfig for a ServiceAccount: `tenantry cluster join`"
TOKEN = {"token": "not-looked-at"}
AT_HOME = Authority.new("somebody else's")
EXPIRED_ON = f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}"


def of(**changes: Json) -> Make:
    """The target's kubeconfig with changes; see `changed_kubeconfig`."""
    return lambda target: changed_kubeconfig(target.kubeconfig_for("not-looked-at"), **changes)


def text(content: str | bytes) -> Make:
    return lambda _target: content


def at(server: str) -> Make:
    return of(cluster={"server": server})


def expired(target: ClusterAccess) -> str:
    return target.certificate_kubeconfig("operator", lifetime=timedelta(days=-3))


def twice(target: ClusterAccess) -> str:
    one = target.kubeconfig_for("not-looked-at")
    return f"{one}\n---\n{one}\n"


def foreign_certificate(target: ClusterAccess) -> str:
    pair = AT_HOME.client("operator")
    user = {
        "client-certificate-data": base64.b64encode(pair.certificate_pem.encode()).decode(),
        "client-key-data": base64.b64encode(AT_HOME.client("another").key_pem.encode()).decode(),
    }
    return changed_kubeconfig(target.kubeconfig_for(""), user=user)


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{former}'] * 9)}]\n" for former, name in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD = "is an IP address in an odd spelling: write it plainly"

REFUSED: dict[str, tuple[Make, str]] = {
    "exec": (
        of(user={"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "aws"}}),
        f'Exec: user "stage-target": exec: no program is run for credentials: {JOIN}',
    ),
    "auth-provider": (
        of(user={"auth-provider": {"name": "gcp"}}),
        f'AuthProvider: user "stage-target": auth-provider: authentication plugins are not run: {JOIN}',
    ),
    "tokenFile": (
        of(user={"tokenFile": "/var/run/secrets/token"}),
        f'TokenFile: user "stage-target": tokenFile: a file is not read: put the token into token, or {JOIN}',
    ),
    "client certificate file": (
        of(user={"client-certificate": "/etc/passwd", "client-key": "/etc/shadow"}),
        'ClientCertificateFile: user "stage-target": client-certificate: a file is not read: put its content, in '
        f"base64, into client-certificate-data, or {JOIN}",
    ),
    "client key file": (
        of(user={"client-key": "/etc/shadow"}),
        'ClientKeyFile: user "stage-target": client-key: a file is not read: put its content, in base64, into '
        f"client-key-data, or {JOIN}",
    ),
    "CA file": (
        of(cluster={"certificate-authority": "/etc/ssl/ca.pem"}),
        'CaFile: cluster "stage-target": certificate-authority: a file is not read: put its content, in base64, into '
        "certificate-authority-data",
    ),
    "http": (
        at("http://10.0.0.1:6443"),
        "PlainHttp: server uses http: credentials only travel over https",
    ),
    "user info": (
        at("https://root:toor@10.0.0.1:6443"),
        f"UserInfo: server has a user name in its URL: {JOIN}",
    ),
    "insecure-skip-tls-verify": (
        of(cluster={"insecure-skip-tls-verify": True}),
        'InsecureTls: cluster "stage-target": insecure-skip-tls-verify: the server must be proven: remove it and give '
        "certificate-authority-data",
    ),
    "no CA": (
        of(cluster={"certificate-authority-data": None}),
        "CaMissing: certificate-authority-data is not set: give the CA certificate of the API server, in base64",
    ),
    "context that is not there": (
        of(root={"current-context": "prod"}),
        'ContextUnknown: current-context names the context "prod", which is not in contexts',
    ),
    "no current context": (
        of(root={"current-context": ""}),
        "ContextMissing: current-context is not set: name the context to use",
    ),
    "two documents": (
        twice,
        "SeveralDocuments: the kubeconfig has a second YAML document (line 32): leave one",
    ),
    "YAML bomb": (
        text(BOMB),
        "YamlAlias: the kubeconfig uses a YAML anchor or alias (line 1): write the value out",
    ),
    "nested too deep": (
        text("[" * 50 + "]" * 50),
        "TooComplex: the kubeconfig is nested too deep or has too many values (line 1)",
    ),
    "tag": (
        text("!!python/object/apply:os.system [id]"),
        "YamlTag: the kubeconfig uses a YAML tag (line 1): write the plain value",
    ),
    "binary": (text(b"\x7fELF\x02\x01\x01\x00\xff\xfe"), "Binary: the kubeconfig is not UTF-8 text"),
    "empty": (text(""), "Empty: the kubeconfig is empty"),
    "basic auth": (
        of(user={"username": "admin", "password": "hunter2"}),
        f'BasicAuth: user "stage-target": username: basic authentication is not accepted: {JOIN}',
    ),
    "impersonation": (
        of(user={**TOKEN, "as": "system:admin"}),
        f'Impersonation: user "stage-target": as: impersonation is not accepted: {JOIN}',
    ),
    "proxy-url": (
        of(cluster={"proxy-url": "socks5://10.0.0.1:1080"}),
        'Proxy: cluster "stage-target": proxy-url: connections through a proxy are not supported: remove it',
    ),
    "expired certificate": (
        expired,
        f"ClientCertificateExpired: client-certificate-data: the client certificate expired on {EXPIRED_ON}; {JOIN}",
    ),
    "key of another certificate": (
        foreign_certificate,
        "ClientKeyMismatch: client-key-data is not the key of client-certificate-data",
    ),
    "no credentials": (
        of(user={}),
        "CredentialsMissing: the user has neither a token nor client-certificate-data and client-key-data: " + JOIN,
    ),
    "link-local address": (
        at("https://169.254.10.20:6443"),
        "AddressLinkLocal: 169.254.10.20 is a link-local address, which is no address of a target",
    ),
    "metadata address": (
        at("https://169.254.169.254"),
        "AddressMetadata: 169.254.169.254 is a cloud's metadata service, which is no address of a target",
    ),
    "metadata address inside IPv6": (
        at("https://[::ffff:169.254.169.254]"),
        "AddressMetadata: ::ffff:169.254.169.254 (::ffff:a9fe:a9fe) is a cloud's metadata service, which is no "
        "address of a target",
    ),
    "unspecified address": (
        at("https://0.0.0.0:6443"),
        "AddressUnspecified: 0.0.0.0 is the unspecified address, which is no address of a target",
    ),
    "address as one number": (at("https://2852039166:80"), f"AddressMalformed: 2852039166 {ODD}"),
}


@pytest.fixture
def registrar(trial: Workbench) -> Iterator[Registrar]:
    with Registrar(trial) as opened:
        yield opened


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_kubeconfig_is_refused_with_its_reason_and_the_way_out(registrar: Registrar, case: str) -> None:
    make, message = REFUSED[case]
    registrar.secret("eu", {"value": make(registrar.bench.stage.target)})
    name = registrar.cluster()
    body = registrar.told("Cluster", name, "False", "KubeconfigInvalid", message)
    for kind in ("CredentialsValid", "Stalled"):
        expected = "False" if kind == "CredentialsValid" else "True"
        assert (condition(body, kind)["status"], condition(body, kind)["message"]) == (expected, message)
    assert condition(body, "Reachable")["status"] == "Unknown", "nothing was dialled"
    assert not condition(body, "Reconciling")
    assert "clusterId" not in body["status"]
    assert "hunter2" not in str(body["status"])
    assert "toor" not in str(body["status"])


def twin(registrar: Registrar) -> str:
    """What a Cluster says whose kubeconfig is right: it leads to the cluster that the stage's own one stands for."""
    cluster_id = registrar.get("Cluster", CLUSTER)["status"]["clusterId"]
    return f"this is the cluster that {CLUSTER!r} stands for already (id {cluster_id}); delete one of the two"


@pytest.mark.parametrize("case", ["exec", "expired certificate", "metadata address"])
def test_a_corrected_kubeconfig_is_taken_at_once(registrar: Registrar, case: str) -> None:
    make, message = REFUSED[case]
    target = registrar.bench.stage.target
    registrar.secret("eu", {"value": make(target)})
    name = registrar.cluster()
    registrar.told("Cluster", name, "False", "KubeconfigInvalid", message)
    registrar.secret("eu", {"value": operator_kubeconfig(target)})
    body = registrar.told("Cluster", name, "False", "DuplicateCluster", twin(registrar))
    assert condition(body, "CredentialsValid")["status"] == "True"


@pytest.mark.parametrize("key", ["value", "value.yaml", "kubeconfig"])
def test_the_kubeconfig_is_found_under_the_keys_that_others_use(registrar: Registrar, key: str) -> None:
    registrar.secret("eu", {key: operator_kubeconfig(registrar.bench.stage.target), "other": "no kubeconfig"})
    body = registrar.told("Cluster", registrar.cluster(), "False", "DuplicateCluster", twin(registrar))
    assert condition(body, "CredentialsValid")["status"] == "True"


def test_a_key_that_is_named_goes_before_the_conventional_ones(registrar: Registrar) -> None:
    good = operator_kubeconfig(registrar.bench.stage.target)
    registrar.secret("eu", {"value": "no kubeconfig", "prod.yaml": good})
    reference = {"name": registrar.full("eu"), "key": "prod.yaml"}
    name = registrar.cluster(kubeconfigSecretRef=reference)
    registrar.told("Cluster", name, "False", "DuplicateCluster", twin(registrar))
    registrar.cluster(kubeconfigSecretRef={**reference, "key": "test.yaml"})
    missing = "SecretKeyMissing: the Secret has no key test.yaml; its keys: prod.yaml, value"
    registrar.told("Cluster", name, "False", "KubeconfigInvalid", missing)


def test_a_secret_without_a_kubeconfig_has_its_keys_told_and_none_of_its_values(registrar: Registrar) -> None:
    registrar.secret("eu", {"token": "s3cret-token", "ca.crt": "s3cret-ca"})
    message = "SecretKeyMissing: the Secret has no key value or value.yaml or kubeconfig; its keys: ca.crt, token"
    body = registrar.told("Cluster", registrar.cluster(), "False", "KubeconfigInvalid", message)
    assert "s3cret" not in str(body["status"])


def test_a_secret_that_is_missing_is_waited_for_and_found_when_it_appears_and_missed_when_it_goes(
    registrar: Registrar,
) -> None:
    name = registrar.cluster()
    message = f"spec.kubeconfigSecretRef: there is no Secret {name!r} in the operator's namespace 'tenantry-system'"
    body = registrar.told("Cluster", name, "Unknown", "SecretNotFound", message)
    assert condition(body, "Reconciling")["status"] == "True"
    assert not condition(body, "Stalled"), "it heals by itself"
    registrar.secret("eu", {"value": operator_kubeconfig(registrar.bench.stage.target)})
    registrar.told("Cluster", name, "False", "DuplicateCluster", twin(registrar))
    registrar.bench.management.delete(f"/api/v1/namespaces/tenantry-system/secrets/{name}", dry=False)
    registrar.told("Cluster", name, "Unknown", "SecretNotFound", message)


def test_a_wrong_ca_a_wrong_token_and_no_rights_are_told_apart(registrar: Registrar) -> None:
    target = registrar.bench.stage.target
    other = base64.b64encode(AT_HOME.certificate_pem.encode()).decode()
    registrar.secret(
        "wrong-ca",
        {"value": changed_kubeconfig(operator_kubeconfig(target), cluster={"certificate-authority-data": other})},
    )
    registrar.secret("wrong-token", {"value": target.kubeconfig_for("not-a-token")})
    registrar.secret("no-rights", {"value": target.service_account_kubeconfig("default", "default")})
    names = {case: registrar.cluster(case) for case in ("wrong-ca", "wrong-token", "no-rights")}
    ca = "the server's certificate is not signed by the kubeconfig's CA"
    body = registrar.told("Cluster", names["wrong-ca"], "Unknown", "Unreachable", ca)
    assert condition(body, "CredentialsValid")["status"] == "True", "the kubeconfig itself is sound"
    body = registrar.told("Cluster", names["wrong-token"], "False", "Unauthorized", "Unauthorized")
    assert condition(body, "CredentialsValid")["status"] == "False"
    assert condition(body, "Reachable")["status"] == "True"
    rights = (
        'the kubeconfig\'s user has too few rights: namespaces "kube-system" is forbidden: User '
        '"system:serviceaccount:default:default" cannot get resource "namespaces" in API group "" in the namespace '
        '"kube-system". Apply deploy/target-rbac.yaml on the target'
    )
    body = registrar.told("Cluster", names["no-rights"], "False", "PermissionsMissing", rights)
    assert condition(body, "PermissionsSufficient")["status"] == "False"
    assert condition(body, "CredentialsValid")["status"] == condition(body, "Reachable")["status"] == "True"


def test_a_server_that_is_not_there_or_is_none_is_told_as_it_is(registrar: Registrar) -> None:
    with Impostor() as impostor, HeldPort() as port:
        kubeconfigs = {
            "nobody": impostor.kubeconfig(f"https://127.0.0.1:{port.number}"),
            "nowhere": impostor.kubeconfig("https://nowhere.invalid:6443"),
            "html": impostor.kubeconfig(f"{impostor.url}/html"),
            "slow": impostor.kubeconfig(f"{impostor.url}/slow"),
        }
        for case, kubeconfig in kubeconfigs.items():
            registrar.secret(case, {"value": kubeconfig})
            registrar.cluster(case)
        for case, message in (
            ("nobody", "the server refused the connection"),
            ("nowhere", "the name nowhere.invalid does not resolve"),
            (
                "html",
                "the server answered with HTML (a log-in page, a proxy?): it is not a Kubernetes API server",
            ),
            ("slow", "no answer within 5 s"),
        ):
            body = registrar.told("Cluster", registrar.full(case), "Unknown", "Unreachable", message)
            assert condition(body, "Reconciling")["status"] == "True", "it may come, so nobody has to act"


@pytest.mark.timeout(600)
def test_this_machines_own_addresses_are_refused_unless_the_flag_allows_them(
    fresh_control_plane: FreshControlPlane, tmp_path: Path
) -> None:
    management = fresh_control_plane("management").access
    install_management(management)
    kubeconfig = tmp_path / "operator.kubeconfig"
    kubeconfig.write_text(operator_kubeconfig(management))
    values = {"value": management.kubeconfig_for("not-looked-at"), "username": "admin", "password": "made-up"}
    literals = [f"--from-literal={key}={value}" for key, value in values.items()]
    management.kubectl("-n", "tenantry-system", "create", "secret", "generic", "here", *literals)
    reference = {"name": "here"}
    server = {"host": "localhost", "adminSecretRef": reference, "sslMode": "disable"}
    for body in (
        platform_manifest("Cluster", "here", kubeconfigSecretRef=reference),
        platform_manifest("DatabaseServer", "here", **server),
    ):
        management.kubectl("create", "-f", "-", input=json.dumps(body))
    refused = (
        "this machine's own loopback (allowed only with --allow-loopback-targets), which is no address of a target"
    )
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", allow_loopback=False):
        for kind, reason in (("cluster", "KubeconfigInvalid"), ("databaseserver", "AddressRefused")):
            management.kubectl("wait", f"{kind}.tenantry.io/here", "--for=condition=Stalled", "--timeout=90s")
            ready = condition(management.get(f"{kind}.tenantry.io", "here"))
            assert (ready["status"], ready["reason"]) == ("False", reason)
            assert ready["message"].endswith(refused), ready["message"]
