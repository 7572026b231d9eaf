"""What is in the images, and what is not."""

import json
import re

import pytest
from building import IMAGES, options
from cluster import TIMES, Cluster, Document
from engine import ROOT

pytestmark = pytest.mark.containers

COORDINATOR, EXAMPLE, CLIENT = "unisono-coordinator:local", "unisono-example:local", "unisono-client:local"
MB = 1_000_000


@pytest.fixture(scope="module")
def client_image(cluster: Cluster) -> str:
    """The image that users start from; all its layers are there, since the example's are on top of them."""
    cluster.engine.must(
        "build", "-q", "--target=client", f"--file={IMAGES / 'client.Dockerfile'}", f"--tag={CLIENT}",
        *options(cluster.engine), ROOT, seconds=900,
    )  # fmt: skip
    return CLIENT


def inspected(cluster: Cluster, image: str) -> Document:
    [found] = json.loads(cluster.engine.must("image", "inspect", image))
    return dict(found)


def above_base(cluster: Cluster, image: str) -> float:
    """Return the size of the layers that are ours, in MB."""
    base = inspected(cluster, image)["Config"]["Labels"]["org.opencontainers.image.base.name"]
    return float(inspected(cluster, image)["Size"] - inspected(cluster, base)["Size"]) / MB


def in_image(cluster: Cluster, image: str, *words: str, user: str = "10001") -> tuple[int, str]:
    entry, *rest = words
    said = cluster.engine(
        "run", "--rm", "--network=none", f"--user={user}", "--entrypoint", entry, image, *rest
    )
    return said.code, said.out.strip()


def test_the_coordinator_is_small_and_has_no_torch(cluster: Cluster) -> None:
    size = above_base(cluster, COORDINATOR)
    TIMES[f"(coordinator above its base: {size:.0f} MB)"] = 0.0
    assert size <= 210
    code, _ = in_image(cluster, COORDINATOR, "python", "-c", "import torch")
    assert code != 0


def test_the_client_has_torch_for_cpus(cluster: Cluster, client_image: str) -> None:
    TIMES[f"(client above its base: {above_base(cluster, client_image):.0f} MB)"] = 0.0
    code, said = in_image(
        cluster,
        client_image,
        "python",
        "-c",
        "import torch; print(torch.__version__, torch.cuda.is_available())",
    )
    assert (code, said.split()[-1]) == (0, "False")


@pytest.mark.parametrize("image", [COORDINATOR, EXAMPLE])
def test_how_an_image_presents_itself(cluster: Cluster, image: str) -> None:
    config = inspected(cluster, image)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["unisono"]
    assert config["Healthcheck"]["Test"] == ["CMD", "unisono", "health", "--local"]
    assert {"title", "description", "version", "licenses", "base.name"} <= {
        label.removeprefix("org.opencontainers.image.") for label in config["Labels"]
    }
    assert in_image(cluster, image, "sh", "-c", "find / -xdev -type f -path '*/.cache/*'", user="0") == (
        0,
        "",
    )


def test_an_image_holds_what_its_lock_says(cluster: Cluster) -> None:
    program = "import importlib.metadata as m; [print(d.name.lower(), d.version) for d in m.distributions()]"
    code, said = in_image(cluster, COORDINATOR, "python", "-c", program)
    assert code == 0, said
    inside = {tuple(line.replace("_", "-").split()) for line in said.splitlines()}
    locked = re.findall(r"^([a-z0-9._-]+)==([^ ]+)", (IMAGES / "requirements.lock").read_text(), re.MULTILINE)
    assert {pair for pair in inside if pair[0] != "unisono"} == set(locked)
