"""The examples: as short as promised, complete, and they learn together what none can alone."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unisono.client.task import Site, create, load
from unisono.client.trainer.checking import Examination
from unisono.client.trainer.workbench import Workbench, unseen
from unisono.plan import Plan, parse

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CASES = {
    "breast_cancer": ("breast_cancer/task.py:BreastCancer", 3),
    "digits_cnn": ("digits_cnn/task.py:Digits", 4),
}
DEMO = "unisono.demo.task:BreastCancer"


def plan_of(folder: str) -> Plan:
    file = EXAMPLES / folder / "plan.toml"
    return parse(file.read_bytes(), str(file))


def sites(spelled: str, plan: Plan, count: int) -> list[Workbench]:
    kind = load(spelled)
    numbers = range(1, count + 1)
    return [
        Workbench(create(kind, Site(f"site-{n}", n), plan.task_parameters), plan, "cpu", 1) for n in numbers
    ]


def averaged(benches: list[Workbench], rounds: int) -> float:
    """Return the accuracy of plain federated averaging on all held-out rows."""
    held = [bench.make() for bench in benches]
    state: dict[str, Tensor] = {k: v.clone() for k, v in held[0].made.state_dict().items()}
    for number in range(1, rounds + 1):
        total, examples = {k: torch.zeros_like(v) for k, v in state.items()}, 0
        for bench, own in zip(benches, held, strict=True):
            own.made.load_state_dict(state)
            used = bench.task.train(own.made, bench.context("train", number, unseen))
            assert used is not None
            examples += used
            for name, value in own.made.state_dict().items():
                total[name] += used * value
        state = {k: v / examples for k, v in total.items()}
    held[0].made.load_state_dict(state)
    found = [b.task.evaluate(held[0].made, b.context("evaluate", 1, unseen))["accuracy"] for b in benches]
    return sum(right for right, _ in found) / sum(count for _, count in found)


@pytest.mark.parametrize("folder", CASES)
def test_an_example_is_one_short_file_and_passes_the_check(folder: str) -> None:
    spelled, count = CASES[folder]
    assert len((EXAMPLES / spelled.split(":")[0]).read_text().splitlines()) <= 30
    plan = plan_of(folder)
    assert plan.cohort.size == count
    kind = load(f"{EXAMPLES / spelled}")
    task = create(kind, Site("a", count), plan.task_parameters)
    findings = list(Examination(lambda: task, plan, "cpu").findings())
    assert [f.text for f in findings if f.state != "ok"] == []
    assert findings[-1].step == "repeat"


def test_three_hospitals_together_know_more_than_each_alone() -> None:
    plan = plan_of("breast_cancer")
    together = averaged(sites(f"{EXAMPLES / CASES['breast_cancer'][0]}", plan, 3), 10)
    alone = [averaged_alone(number, plan) for number in (1, 2, 3)]
    assert together >= 0.95
    assert together > sum(alone) / 3


def averaged_alone(number: int, plan: Plan) -> float:
    """Return the accuracy, on all held-out rows, of one site that trains ten rounds by itself."""
    benches = sites(DEMO, plan, 3)
    own = benches[number - 1]
    model = own.make().made
    for bench in benches:
        bench.make()
    for round_number in range(1, 11):
        own.task.train(model, own.context("train", round_number, unseen))
    found = [b.task.evaluate(model, b.context("evaluate", 1, unseen))["accuracy"] for b in benches]
    return sum(right for right, _ in found) / sum(count for _, count in found)


def test_four_sites_learn_the_digits_that_each_lacks() -> None:
    plan = plan_of("digits_cnn")
    benches = sites(f"{EXAMPLES / CASES['digits_cnn'][0]}", plan, 4)
    seen = [set(bench.task.train_data()[1].tolist()) for bench in benches]
    assert all(len(labels) <= 5 for labels in seen)
    assert averaged(benches, 14) > 0.7


def test_the_demos_task_has_the_examples_rows_and_model() -> None:
    plan = plan_of("breast_cancer")
    ours, theirs = sites(DEMO, plan, 3), sites(f"{EXAMPLES / CASES['breast_cancer'][0]}", plan, 3)
    rows: list[Tensor] = []
    for one, other in zip(ours, theirs, strict=True):
        for mine, example in (
            (one.task.train_data(), other.task.train_data()),
            (one.task.eval_data(), other.task.eval_data()),
        ):
            assert all(a.equal(b) for a, b in zip(mine.tensors, example, strict=True))
            rows.append(mine.tensors[1])
    assert [len(part) for part in rows] == [152, 38, 152, 38, 151, 38]
    assert str(ours[0].make().made) == str(theirs[0].make().made)
