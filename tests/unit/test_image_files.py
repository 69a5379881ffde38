"""What the image is made of, as its files say it; that it works is `make image-check`."""

from __future__ import annotations

import re
from pathlib import Path

from tests.image.within import PATH, USER

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text()


def test_it_is_tried_as_it_is_run() -> None:
    assert re.findall(r"^USER (\S+)$", CONTAINERFILE, re.MULTILINE) == [f"{USER}:{USER}"]
    assert re.findall(r"\bPATH=(\S+)", CONTAINERFILE) == [PATH]


def test_all_of_its_bases_can_be_given() -> None:
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)
    assert set(bases) == {"${BASE}", "${FORMER_BASE}"}


def test_python_packages_are_installed_by_hash_or_from_the_tree() -> None:
    installs = re.findall(r"pip install (.*)", CONTAINERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in each or "--no-index --no-deps" in each for each in installs)


def test_the_build_sees_what_it_copies_and_nothing_more() -> None:
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        source.split("/")[0] if not source.startswith("deploy") else source
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINERFILE, re.MULTILINE)
        for source in line.split()
    }
    assert seen == copied
    assert all((ROOT / each).exists() for each in seen)
