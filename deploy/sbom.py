"""`make sbom`: the wheel, and what is inside it and the images: CycloneDX, and licences.  Into dist/.

From the locks and from installed environments, so it needs no Docker: an image holds what its locks say, and
`tests/containers` compares one with the other.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "deploy" / "images"
DIST = ROOT / "dist"
PARTS: Mapping[str, Sequence[str]] = {  # the wheel is a library: what it needs, as the coordinator has it
    "unisono-wheel": ("requirements.lock",),
    "unisono-coordinator": ("requirements.lock",),
    "unisono-client": ("requirements.lock", "requirements-torch-cpu.lock"),
    "unisono-example": ("requirements.lock", "requirements-torch-cpu.lock", "requirements-example.lock"),
}
EPOCH = "1577836800"  # 2020-01-01: the same files at any time


def called(*words: str | Path, **environment: str) -> str:
    """Run a tool; return what it says."""
    done = subprocess.run(  # noqa: S603
        [str(word) for word in words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    return done.stdout


def wheel(to: Path) -> Path:
    """Build the wheel, the same bytes each time.  Return it."""
    called(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-build-isolation", f"--wheel-dir={to}", ".", SOURCE_DATE_EPOCH=EPOCH,
    )  # fmt: skip
    [made] = to.glob("unisono-*.whl")
    return made


def pinned(locks: Sequence[str]) -> str:
    """Return the requirements of some locks, each once: where two name a package they name one version."""
    found: dict[str, str] = {}
    for lock in locks:
        for block in (LOCKS / lock).read_text().replace("\\\n", " ").splitlines():
            if block and not block.startswith("#"):
                found[block.split("==")[0]] = " ".join(block.split())
    return "\n".join(found.values()) + "\n"


def inventory(tools: Path, name: str, locks: Sequence[str], known: Mapping[str, str]) -> Path:
    """Write what is in an image, as CycloneDX.  Return the file."""
    file = DIST / f"{name}.cdx.json"
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(pinned(locks))
        requirements.flush()
        text = called(
            tools / "bin" / "cyclonedx-py", "requirements", "--pyproject", ROOT / "pyproject.toml",
            "--output-reproducible", "--short-PURLs", requirements.name,
        )  # fmt: skip
    document = json.loads(text)
    document["metadata"]["component"]["name"] = name
    for component in document["components"]:
        if name_of := known.get(component["name"].lower()):
            component["licenses"] = [{"license": {"name": name_of}}]
        component["description"] = f"{component['name']} {component['version']}, locked by hash"
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
    return file


def licences(tools: Path) -> Mapping[str, str]:
    """Return the licence of each package of this environment, as its own metadata say it."""
    text = called(
        tools / "bin" / "pip-licenses", "--python", sys.executable, "--format=json", "--from=mixed",
        "--with-system",
    )  # fmt: skip
    return {line["Name"].lower().replace("_", "-"): line["License"] for line in json.loads(text)}


def table(known: Mapping[str, str]) -> Path:
    """Write the licences of all that the images hold, as a page."""
    file = DIST / "LICENCES.md"
    pins = {line.split(" ")[0] for part in PARTS.values() for line in pinned(part).splitlines()}
    rows = (pin.split("==") for pin in sorted(pins))
    lines = (f"| {name} | {version} | {known.get(name, 'see its page')} |" for name, version in rows)
    file.write_text("\n".join(("| package | version | licence |", "|---|---|---|", *lines, "")))
    return file


def sums(files: Sequence[Path]) -> Path:
    """Write SHA256SUMS, for `sha256sum --check`."""
    file = DIST / "SHA256SUMS"
    file.write_text("".join(f"{sha256(made.read_bytes()).hexdigest()}  {made.name}\n" for made in files))
    return file


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, required=True, help="the environment with cyclonedx-py")
    tools = (ROOT / parser.parse_args().tools).absolute()
    DIST.mkdir(exist_ok=True)
    for old in DIST.glob("unisono-*.whl"):
        old.unlink()
    known = licences(tools)
    made = [
        wheel(DIST),
        *(inventory(tools, name, locks, known) for name, locks in PARTS.items()),
        table(known),
    ]
    for file in (*made, sums(made)):
        print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
