"""What is shipped can be made again bit by bit, and says what it is made of."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "deploy" / "images"
LOCKS = sorted(IMAGES.glob("requirements*.lock"))
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
NOT_SOURCES = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info")


def wheel(folder: Path, *, day: int, umask: int) -> Path:
    """Build the wheel from a copy of the sources that looks older or newer, with other modes."""
    source = folder / "source"
    for name in ("common", "server", "client"):
        shutil.copytree(ROOT / name, source / name, ignore=NOT_SOURCES)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for path in source.rglob("*"):
        path.chmod(path.stat().st_mode & ~umask)
        os.utime(path, (day * 86_400, day * 86_400))
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1577836800"},
        check=True,
        capture_output=True,
    )
    [made] = folder.glob("*.whl")
    return made


def test_the_wheel_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = wheel(tmp_path / "first", day=10_000, umask=0)
    second = wheel(tmp_path / "second", day=20_000, umask=0o077)
    names = [set(zipfile.ZipFile(made).namelist()) for made in (first, second)]
    assert names[0] == names[1]
    assert sha256(first.read_bytes()).digest() == sha256(second.read_bytes()).digest()
    assert {"unisono/server/process.py", "unisono/client/commands.py", "unisono/demo/task.py"} <= names[0]
    assert not [name for name in names[0] if "test" in name or name.endswith(".pyc")]


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_versions_and_hashes_and_no_host(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert "index" not in text
    blocks = re.split(r"\n(?=[a-z])", text.strip())
    assert len(blocks) >= 3
    for block in blocks:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+", block), block
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block


def test_the_locks_agree_with_each_other() -> None:
    core = pins(IMAGES / "requirements.lock")
    for name in ("requirements-torch-cpu.lock", "requirements-example.lock"):
        other = pins(IMAGES / name)
        assert {n: v for n, v in other.items() if n in core} == {n: core[n] for n in other if n in core}, name


def test_the_lock_has_what_the_project_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in project["dependencies"]}
    assert needed <= pins(IMAGES / "requirements.lock").keys()
    assert "torch" not in pins(IMAGES / "requirements.lock")
    torch = re.search(r"^TORCH \?= torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch is not None
    assert pins(IMAGES / "requirements-torch-cpu.lock")["torch"] == f"{torch[1]}+cpu"
    assert pins(IMAGES / "requirements-torch.lock")["torch"] == torch[1]


def test_every_package_of_the_images_has_its_licence_written_down() -> None:
    page = (ROOT / "docs" / "LICENCES.md").read_text()
    listed = {row[0]: row[1] for row in re.findall(r"^\| (\S+) \| (\S+) \| \S.* \|$", page, re.MULTILINE)}
    shipped = ("requirements.lock", "requirements-torch-cpu.lock", "requirements-example.lock")
    for lock in shipped:
        found = pins(IMAGES / lock)
        assert found == {name: listed.get(name) for name in found}, f"{lock}: make sbom, then copy the page"


def test_images_name_no_syntax_image_and_no_host() -> None:
    for file in IMAGES.glob("*.Dockerfile"):
        text = file.read_text()
        assert "syntax=" not in text
        assert "://" not in text
        assert text.count("\nUSER 10001:10001\n") == text.count("\nENTRYPOINT [") + text.count("USER 0:0")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_one_that_systemd_accepts(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    copied = tmp_path / unit.name
    copied.write_text(unit.read_text().replace("/opt/unisono/bin/unisono", "/bin/true"))
    done = subprocess.run([analyze, "verify", copied], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    limit = "--threshold=25"  # of 100: what systemd calls "OK" ends at 50
    done = subprocess.run(  # noqa: S603
        [analyze, "security", "--offline=true", limit, copied], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-600:]


def test_what_compose_opens_is_this_machines_and_answers_to_its_name_only() -> None:
    """Grafana asks for no password, and shows what the ops port guards by a token."""
    text = (ROOT / "docker-compose.yml").read_text()
    ports = re.findall(r"\$\{\w+_LISTEN:-([^}]*)\}", text)
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert 'GF_SERVER_ENFORCE_DOMAIN: "true"' in text
    assert "GF_SERVER_DOMAIN: ${GRAFANA_DOMAIN:-localhost}" in text


def test_there_are_two_units() -> None:
    assert [unit.name for unit in UNITS] == ["unisono-client.service", "unisono-coordinator.service"]
