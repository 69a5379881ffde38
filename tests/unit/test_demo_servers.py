"""How the demo starts, ends and writes: servers side by side, one interruption, any terminal."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from rich.console import Console
from tests.demo.interruptions import Interrupted, Interruptions
from tests.demo.looking import Line, lines, setup_line, try_lines
from tests.demo.screen import Screen
from tests.demo.servers import ServerGroup
from tests.demo.stage import merged_kubeconfig, wrapper

WAIT = 10.0


class _Server:
    """Counts; blocks or fails in `start` if told to."""

    def __init__(self, *, waits: bool = False, fails: bool = False) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.stops = 0
        self._waits = waits
        self._fails = fails

    def start(self) -> None:
        self.started.set()
        if self._fails:
            raise RuntimeError("no room")
        if self._waits and self.ended.wait(WAIT):
            raise RuntimeError("stopped while it was starting")

    def stop(self) -> None:
        self.stops += 1
        self.ended.set()


def test_servers_start_side_by_side_and_each_is_told_once() -> None:
    told: list[str] = []
    group = ServerGroup({"one": _Server(), "two": _Server()})
    group.start(lambda name, _seconds: told.append(name))
    group.stop()
    assert sorted(told) == ["one", "two"]


def test_when_one_fails_the_error_comes_at_once_and_the_others_starts_are_ended() -> None:
    slow, broken = _Server(waits=True), _Server(fails=True)
    group = ServerGroup({"slow": slow, "broken": broken})
    with pytest.raises(RuntimeError, match="no room"):
        group.start(lambda _name, _seconds: None)
    assert slow.started.wait(WAIT)
    group.stop()
    assert slow.ended.is_set()
    assert slow.stops >= 1
    assert not any(thread.name == "start-slow" for thread in threading.enumerate())


def test_all_are_stopped_though_one_stop_fails_and_that_is_told() -> None:
    class Stubborn(_Server):
        def stop(self) -> None:
            raise RuntimeError("outlives SIGKILL")

    good = _Server()
    group = ServerGroup({"stubborn": Stubborn(), "good": good})
    with pytest.raises(RuntimeError, match="outlives SIGKILL"):
        group.stop()
    assert good.stops == 1


def test_only_the_first_signal_interrupts_and_none_does_while_cleaning_up() -> None:
    before = signal.getsignal(signal.SIGINT)  # who runs tests in the background may have it ignored
    with Interruptions() as interruptions:
        with pytest.raises(Interrupted) as raised:
            os.kill(os.getpid(), signal.SIGTERM)
        assert raised.value.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
    with Interruptions() as interruptions:
        interruptions.shield()
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_plain_lines_are_neither_cut_nor_coloured_and_need_no_unicode() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    screen = Screen(Console(file=stream, width=40))
    screen.title("What was made")
    with screen.step("a step"):
        screen.say("x" * 100 + " [not markup]")
    stream.flush()
    text = raw.getvalue().decode()
    assert not screen.live
    assert "x" * 100 + " [not markup]\n" in text
    assert "a step .." in text
    assert "ok a step (0.0 s)" in text
    assert "\x1b" not in text


def test_the_merged_kubeconfig_has_a_context_for_each_cluster_and_the_first_is_current() -> None:
    def one(server: str) -> str:
        parts = {"clusters": [{"name": "x", "cluster": {"server": server}}], "users": [{"name": "x", "user": {}}]}
        return json.dumps(parts)

    merged = json.loads(merged_kubeconfig({"management": one("https://a"), "target": one("https://b")}))
    assert merged["current-context"] == "management"
    assert [entry["name"] for entry in merged["contexts"]] == ["management", "target"]
    assert {entry["name"]: entry["cluster"]["server"] for entry in merged["clusters"]} == {
        "management": "https://a",
        "target": "https://b",
    }


def test_a_wrapper_passes_arguments_and_its_environment_on_whatever_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_text(wrapper(("sh", "-c", 'printf "%s|%s" "$WHERE" "$1"', "sh"), {"WHERE": "it's here"}))
    path.chmod(0o755)
    done = subprocess.run([str(path), "a b"], capture_output=True, text=True, check=True, timeout=WAIT)
    assert done.stdout == "it's here|a b"


def test_the_first_line_to_copy_makes_the_programs_found(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "kubectl"
    program.write_text('#!/bin/sh\necho "$KUBECONFIG" "$@"\n')
    program.chmod(0o755)
    copied = lines(setup_line(tmp_path / "bin", tmp_path / "kubeconfig"), {}, tmp_path / "log")
    assert try_lines(copied) == []
    problems = try_lines([*copied, Line("kubectl-is-not-here", "fails")])
    assert len(problems) == 1
    assert problems[0].startswith("`kubectl-is-not-here` ended with 127")
