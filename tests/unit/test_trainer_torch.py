"""Rounds of torch tasks, in this process, against loops written by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from unisono.base.ids import Digest
from unisono.client.trainer import seeding
from unisono.client.trainer.at_rest import SealedFile
from unisono.client.trainer.batches import count, feed
from unisono.client.trainer.desk import Desk
from unisono.codec import Spec, SpecPart, decode_head, decode_part, head_names
from unisono.crypto import ENVELOPE, AtRest, SealingKey, open_from
from unisono.plan import Plan, canonical, parse
from unisono.tensors import Manifest

KEY = bytes(range(32))
RECIPIENT = SealingKey.from_bytes(bytes(range(1, 33)))
TASKS = '''
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from unisono.client import Task

def rows(count, seed):
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(1, keepdim=True) > 0).float()

class Linear(Task):
    """25 rows in batches of 10: the last is short."""
    def model(self):
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    def train_data(self):
        return rows(25, 1)
    def eval_data(self):
        return TensorDataset(*rows(7, 2))
    def loss(self, model, batch):
        return nn.functional.mse_loss(model(batch[0]), batch[1])
    def metrics(self, model, batch):
        return {"accuracy": (((model(batch[0]) > 0.5) == (batch[1] > 0.5)).sum(), len(batch[1]))}

class Wide(Linear):
    def optimizer(self, parameters):
        return torch.optim.SGD(parameters, lr=0.5, momentum=0.9)

class Mixed(Linear):
    """Frozen, half precision, double, normalised, tied."""
    def model(self):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.frozen = nn.Linear(3, 3).requires_grad_(False)
                self.norm = nn.BatchNorm1d(3)
                self.low = nn.Linear(3, 3).to(torch.bfloat16)
                self.high = nn.Parameter(torch.ones(3, dtype=torch.float64))
                self.inner = nn.Linear(3, 3, bias=False)
                self.tied = nn.Linear(3, 3, bias=False)
                self.tied.weight = self.inner.weight
                self.last = nn.Linear(3, 1)
                self.register_buffer("hidden", torch.zeros(1), persistent=False)
            def forward(self, x):
                self.hidden += 1
                x = self.low(self.norm(self.frozen(x)).to(torch.bfloat16)).float() * self.high.float()
                return self.last(self.tied(self.inner(x)) + self.hidden / 100)
        return Net()

class Diverges(Linear):
    def loss(self, model, batch):
        return super().loss(model, batch) * (float("nan") if model.training else 1)

class Loaded(Linear):
    """A loader with a generator of its own."""
    def train_data(self):
        own = torch.Generator()
        return DataLoader(TensorDataset(*rows(25, 1)), 10, shuffle=True, generator=own)

class Written(Linear):
    """A loop of one's own, which calls the plan's."""
    def train(self, model, context):
        for p in model.parameters():
            p.data.zero_()
        return super().train(model, context) + 1

class NoData(Linear):
    def train_data(self):
        return TensorDataset(*rows(0, 1))
'''


class Site:
    """A desk, a folder, a plan."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder, self.plan = folder, plan
        self.desk = Desk(lambda stage, done, total: None)
        (folder / "learners.py").write_text(TASKS)
        self.manifest = Manifest(())

    def open(self, name: str) -> "Site":
        site = {"name": "site-a", "number": 1, "data": None}
        request = {
            "do": "open",
            "task": f"{self.folder / 'learners.py'}:{name}",
            "site": site,
            "device": "cpu",
        }
        plan = canonical(self.plan).decode()
        answer = self.desk.answer(request | {"plan": plan, "threads": 1, "key": KEY.hex()})
        assert "opened" in answer, answer
        described: Any = self.desk.answer({"do": "describe", "out": str(self.folder / "model")})["described"]
        self.manifest = Manifest.decode(described["manifest"].encode())
        self.model = described["model"]
        return self

    def work(self, round_number: int = 1, part: str = "delta", what: str = "train") -> dict[str, Any]:
        parts = (SpecPart(part, self.manifest.length, 10.0, weighted=True),)
        self.spec = Spec(32, 2, parts, head_names(self.manifest.metrics))
        return self.desk.answer(
            {
                "do": "work",
                "what": what,
                "run": "r-0001",
                "round": round_number,
                "model": str(self.folder / "model"),
                "model_sha256": self.model,
                "spec": self.spec.encode().decode(),
                "out": str(self.folder / "update"),
                "seal": {"public": RECIPIENT.public.hex(), "context": ""},
            }
        )

    def update(self) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
        """Return the unweighted change of each tensor and the head."""
        sealed = (self.folder / "update").read_bytes()
        plain = open_from(RECIPIENT, sealed[:ENVELOPE], b"").open(0, sealed[ENVELOPE:], last=True)
        words = np.frombuffer(plain, np.uint64)
        vector = np.empty(self.manifest.length)
        decode_part(self.spec, self.spec.parts[0], words[: self.spec.head_offset], 1, vector)
        head = decode_head(words[self.spec.head_offset :], self.spec)
        vector /= head["weight"]
        travelling = [p for p in self.manifest.pieces() if p.start is not None]
        return {
            p.entry.name: vector[p.start : p.start + p.entry.size].reshape(p.entry.shape)
            for p in travelling
            if p.start is not None
        }, head

    def file(self) -> bytes:
        with SealedFile.of_model(self.folder / "model", AtRest(KEY), Digest(str(self.model))) as file:
            return bytes(file.read(0, file.length))


PLAN = """
task = "t"
seed = 7
[training]
epochs = 2
batch_size = 10
max_examples = 25
"""
Make = Callable[..., Site]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(name: str, more: str = "") -> Site:
        return Site(tmp_path, parse((PLAN + more).encode())).open(name)

    return made


def rows(count: int, seed: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return x, (x.sum(1, keepdim=True) > 0).float()


def network() -> nn.Module:
    torch.manual_seed(seeding.derive(7, "model"))
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def by_hand(model: nn.Module, optimiser: torch.optim.Optimizer, seed: int) -> None:
    """Two epochs over 25 rows in batches of 10, permuted by the round's seed."""
    x, y = rows(25, 1)
    order = torch.Generator().manual_seed(seed)
    for _ in range(2):
        mixed = torch.randperm(25, generator=order)
        for rows_ in (mixed[:10], mixed[10:20], mixed[20:]):
            optimiser.zero_grad()
            backward(nn.functional.mse_loss(model(x[rows_]), y[rows_]))
            optimiser.step()


OPTIMISERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "adam": lambda p: torch.optim.Adam(p, lr=0.05),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.05),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_training_is_the_plain_loop(make: Make, name: str) -> None:
    site = make("Linear", f'optimizer = "{name}"\nlearning_rate = 0.05')
    assert "done" in site.work(round_number=3)
    change, head = site.update()
    model = network()
    first = {k: v.clone() for k, v in model.state_dict().items()}
    by_hand(model, OPTIMISERS[name](model.parameters()), seeding.derive(7, "train", 3, "site-a"))
    for tensor, value in model.state_dict().items():
        np.testing.assert_allclose(change[tensor], value - first[tensor], atol=2e-7)
    assert head["weight"] == 1  # 25 of at most 25, not 50: an example counts once
    assert head["accuracy.count"] == 7


def test_a_task_brings_its_own_optimiser(make: Make) -> None:
    site = make("Wide")
    site.work()
    model = network()
    first = {k: v.clone() for k, v in model.state_dict().items()}
    own = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    by_hand(model, own, seeding.derive(7, "train", 1, "site-a"))
    for tensor, value in model.state_dict().items():
        np.testing.assert_allclose(site.update()[0][tensor], value - first[tensor], atol=2e-6)


def test_metrics_are_those_of_the_model_received(make: Make) -> None:
    site = make("Linear")
    site.work()
    x, y = rows(7, 2)
    with torch.no_grad():
        out = network()(x)
    _, head = site.update()
    assert site.manifest.metrics == ("loss", "accuracy")
    assert head["loss.sum"] == pytest.approx(7 * nn.functional.mse_loss(out, y).item(), abs=1e-6)
    assert head["accuracy.sum"] == int(((out > 0.5) == (y > 0.5)).sum())


def test_fedsgd_sends_the_gradient_of_all_examples_at_once(make: Make) -> None:
    site = make("Linear", '[aggregation]\nstrategy = "fedsgd"\nlearning_rate = 0.25')
    assert "done" in site.work(part="gradient")
    model = network()
    x, y = rows(25, 1)
    backward(nn.functional.mse_loss(model(x), y))
    change, head = site.update()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        np.testing.assert_allclose(change[name], parameter.grad, atol=2e-7)
    assert head["weight"] == 1


def test_fedsgd_moves_buffers_to_their_new_value(make: Make) -> None:
    site = make("Mixed", '[aggregation]\nstrategy = "fedsgd"\nlearning_rate = 0.25')
    before = safetensors.torch.load(site.file())
    site.work(part="gradient")
    fed_sgd, _ = site.update()
    assert before["norm.running_mean"].abs().sum() == 0
    moved = before["norm.running_mean"].numpy() - 0.25 * fed_sgd["norm.running_mean"]
    assert np.abs(moved).max() > 1e-3
    x, _ = rows(25, 1)
    frozen = nn.Linear(3, 3)
    frozen.load_state_dict({"weight": before["frozen.weight"], "bias": before["frozen.bias"]})
    running = torch.zeros(3)
    for start in (0, 10, 20):  # momentum 0.1, batch by batch
        running = 0.9 * running + 0.1 * frozen(x[start : start + 10]).mean(0)
    np.testing.assert_allclose(moved, running.detach(), atol=1e-6)


def test_what_travels_and_how_a_model_file_looks_to_others(make: Make, tmp_path: Path) -> None:
    site = make("Mixed")
    travels = {e.name: e.travels for e in site.manifest.entries}
    assert not travels["frozen.weight"]
    assert not travels["norm.num_batches_tracked"]
    assert travels["norm.running_var"]
    assert travels["inner.weight"]
    assert "tied.weight" not in travels  # one tensor, under the name that sorts first
    assert {e.name: e.dtype for e in site.manifest.entries}["low.weight"] == "BF16"
    (tmp_path / "plain.safetensors").write_bytes(site.file())
    loaded = safetensors.torch.load_file(tmp_path / "plain.safetensors")
    task: Any = site.desk._trainer
    torch.manual_seed(99)
    other = task._bench.task.model()
    missing, unexpected = safetensors.torch.load_model(other, tmp_path / "plain.safetensors")
    assert not missing
    assert not unexpected
    assert other.state_dict()["tied.weight"].equal(loaded["inner.weight"])
    again = task._bench.task.model()
    again.load_state_dict(loaded, strict=False)
    assert again.tied.weight is again.inner.weight
    assert again.tied.weight.equal(loaded["inner.weight"])


def test_every_kind_of_tensor_is_trained_and_sent(make: Make) -> None:
    site = make("Mixed")
    assert "done" in site.work()
    change, _ = site.update()
    moved = {name for name, value in change.items() if np.abs(value).max() > 1e-4}
    assert {"low.weight", "high", "inner.weight", "last.weight", "norm.running_mean"} <= moved
    assert "frozen.weight" not in change


@pytest.mark.parametrize("name", ["Mixed", "Loaded", "Linear"])
def test_a_warm_trainer_and_a_new_one_give_the_same_update(make: Make, name: str) -> None:
    warm = make(name)
    for round_number in (1, 2):
        warm.work(round_number)
    once, _ = warm.update()
    fresh = make(name)
    fresh.work(2)
    again, _ = fresh.update()
    assert all(np.array_equal(once[key], again[key]) for key in once)


def test_a_loop_of_ones_own_may_call_the_plans(make: Make) -> None:
    site = make("Written")
    assert "done" in site.work()
    assert site.update()[1]["weight"] == 1


@pytest.mark.parametrize(("name", "code"), [("Diverges", "not_finite"), ("NoData", "no_data")])
def test_what_goes_wrong_has_a_code(make: Make, name: str, code: str) -> None:
    site = make(name)
    failed: Any = site.work()["failed"]
    assert failed["code"] == code
    assert "done" in site.work(what="evaluate")


def test_data_of_every_kind_gives_the_same_examples() -> None:
    x, y = torch.arange(20.0).view(10, 2), torch.arange(10)

    class Rows(Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            return x[index], y[index]

    whole = TensorDataset(x, y)
    kinds: list[Any] = [whole, (x, y), (x.numpy(), y.numpy()), Rows(), DataLoader(whole, 4, shuffle=True)]
    for data in kinds:
        fed = feed(data, 4, "cpu", torch.Generator().manual_seed(3))
        batches = list(fed.once())
        assert fed.steps == 3
        assert [count(b) for b in batches] == [4, 4, 2]
        seen = torch.cat([b[1] for b in batches])
        assert sorted(seen.tolist()) == list(range(10))
        assert all(b[0].equal(x[b[1]]) for b in batches)
    part = feed(Subset(Subset(whole, [8, 6, 4, 2]), [3, 0]), 4, "cpu", None)
    assert [b[1].tolist() for b in part.once()] == [[2, 8]]
    assert count({"text": ["a", "b"], "label": torch.zeros(2)}) == 2
