"""The images under test; with an engine that reaches no registry, from Debian's python and a wheelhouse."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine import ROOT, Engine, must

IMAGES = ROOT / "deploy" / "images"
LOCKS = (
    "requirements.lock",
    "requirements-torch-cpu.lock",
    "requirements-example.lock",
    "requirements-build.lock",
)
KEPT = (
    ROOT / ".venv-tools" / "containers"
)  # what takes a while to fetch is kept between runs; `make clean` ends it
BASE, WHEELS = "unisono-test-base:local", "unisono-test-wheels:local"
OFFLINE = {
    "BASE": BASE,
    "WHEELS": WHEELS,
    "PIP_OPTIONS": "--no-index --find-links=/wheels",
    "TORCH_INDEX": "/wheels",
}


def override(engine: Engine) -> Path:
    """Return a compose file that says, beside the shipped one, how images are built here."""
    arguments = OFFLINE if engine.offline else {}
    build = {"build": {"args": arguments}} if arguments else {}
    file = engine.folder / "override.json"
    file.write_text(json.dumps({"services": {"coordinator": build, "client": build}}))
    return file


def options(engine: Engine) -> list[str]:
    """Return the same for `docker build`."""
    given = (
        OFFLINE if engine.offline else {key: os.environ[key] for key in ("TORCH_INDEX",) if key in os.environ}
    )
    return [word for key, value in given.items() for word in ("--build-arg", f"{key}={value}")]


def prepare(engine: Engine) -> None:
    """Make base and wheels, side by side, where they cannot be fetched from a build."""
    if not engine.offline:
        return
    KEPT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(_base, engine), pool.submit(_wheels, engine)]:
            made.result()


def _base(engine: Engine) -> None:
    if (
        engine("image", "inspect", BASE).code == 0
    ):  # an engine that stays; another import would be another image
        return
    packages = "--include=python3,python3-venv,ca-certificates"
    tar = KEPT / "base.tar"
    if not tar.exists():
        part = tar.with_suffix(".part.tar")
        must("mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", part, seconds=600)
        part.replace(tar)
    engine.must("import", tar, BASE)


def _wheels(engine: Engine) -> None:
    if engine("image", "inspect", WHEELS).code == 0:
        return
    wheels = KEPT / "wheels"
    wheels.mkdir(exist_ok=True)
    locks = [word for lock in LOCKS for word in ("-r", str(IMAGES / lock))]
    index = os.environ.get("TORCH_INDEX", "")
    more = ["--extra-index-url", index] if index else []
    must(
        sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--python-version=3.11",
        "--only-binary=:all:", f"--dest={wheels}", *more, *locks, seconds=900,
    )  # fmt: skip
    (engine.folder / "wheels.Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    engine.must("build", "-q", "-f", engine.folder / "wheels.Dockerfile", "-t", WHEELS, wheels)
