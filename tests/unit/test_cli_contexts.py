"""One context out of a person's kubeconfigs: merged as kubectl merges, paths made absolute."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.cli.contexts import ContextError, kubeconfig_paths, load_context


def config(*names: str, current: str = "", **user: Any) -> dict[str, Any]:
    """A kubeconfig with a cluster, a user and a context for each name."""
    return {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example.com"}} for name in names],
        "users": [{"name": name, "user": dict(user) or {"token": f"of-{name}"}} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "current-context": current,
    }


def written(path: Path, content: Any) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_the_context_that_is_named_is_taken_with_its_own_cluster_and_user_and_no_other(tmp_path: Path) -> None:
    path = written(tmp_path / "config", config("east", "west", current="east"))
    context = load_context(path, "west")
    assert context.server == "https://west.example.com"
    assert [entry["user"] for entry in context.config["users"]] == [{"token": "of-west"}]
    assert context.config["current-context"] == "west"
    assert load_context(path).name == "east"


def test_of_several_files_the_first_that_says_something_wins(tmp_path: Path) -> None:
    one = config("east")
    two = config("east", "west", current="west")
    two["clusters"][0]["cluster"]["server"] = "https://another.example.com"
    paths = os.pathsep.join([written(tmp_path / "one", one), str(tmp_path / "absent"), written(tmp_path / "two", two)])
    assert load_context(paths).name == "west"
    assert load_context(paths, "east").server == "https://east.example.com"


def test_relative_paths_count_from_the_folder_of_their_file(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("a certificate")
    content = config(
        "east", current="east", **{"client-key": "east.key", "exec": {"command": "./plugin", "args": ["-v"]}}
    )
    content["clusters"][0]["cluster"]["certificate-authority"] = "ca.crt"
    context = load_context(written(tmp_path / "config", content))
    user = context.config["users"][0]["user"]
    assert user["client-key"] == str(tmp_path / "east.key")
    assert Path(user["exec"]["command"]) == tmp_path / "plugin"
    assert base64.b64decode(context.authority() or "") == b"a certificate"


def test_a_program_without_a_folder_is_left_to_the_search_path(tmp_path: Path) -> None:
    content = config("east", current="east", exec={"command": "aws"})
    assert load_context(written(tmp_path / "config", content)).config["users"][0]["user"]["exec"]["command"] == "aws"


def test_a_context_without_a_ca_says_so_by_none_and_a_lost_file_by_an_error(tmp_path: Path) -> None:
    content = config("east", current="east")
    assert load_context(written(tmp_path / "config", content)).authority() is None
    content["clusters"][0]["cluster"]["certificate-authority"] = "lost.crt"
    with pytest.raises(ContextError, match=r"certificate-authority .*lost\.crt can't be read"):
        load_context(written(tmp_path / "config", content)).authority()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (config("east", "west"), "has no current-context: name one of its contexts: east, west"),
        (config("east", current="gone"), "has no context 'gone'; it has: east"),
        (config("east", current="east") | {"users": []}, "names the user 'east', which is not there"),
        ({}, "has no current-context: name one of its contexts: none"),
        (["a", "list"], "is no kubeconfig"),
        ({"contexts": {"a": "mapping"}}, "is no kubeconfig"),
        ({"contexts": ["text"]}, "is no kubeconfig"),
    ],
)
def test_what_is_missing_is_named_with_what_is_there(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ContextError, match=message.replace("(", r"\(")):
        load_context(written(tmp_path / "config", content))


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("token: [hunter2\nother: }")
    with pytest.raises(ContextError, match="is not YAML") as caught:
        load_context(str(tmp_path / "config"))
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ContextError, match="there is no kubeconfig at"):
        load_context(str(tmp_path / "absent"))


def test_the_kubeconfig_is_looked_for_where_kubectl_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kubeconfig_paths(None, {}) is None
    (tmp_path / ".kube").mkdir()
    home = tmp_path / ".kube" / "config"
    home.write_text("")
    assert kubeconfig_paths(None, {}) == str(home)
    assert kubeconfig_paths(None, {"KUBECONFIG": "/a:/b"}) == "/a:/b"
    assert kubeconfig_paths("/flag", {"KUBECONFIG": "/a"}) == "/flag"
