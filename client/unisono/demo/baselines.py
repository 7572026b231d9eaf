"""What the federation is compared with: each site training alone, and all rows in one place.

`python -m unisono.demo.baselines PLAN CLIENTS` writes two lines of JSON: {"rows": [[train, held out], ...]}
as soon as the data is read, then {"alone": [accuracy, ...], "pooled": accuracy}.

Only the training rows differ: the same task code, first model, optimiser and number of epochs in all
(rounds x epochs), and the same held-out rows of all sites.  Every row is standardised by the training rows of
the site that holds it, in the federation, alone and pooled alike, so that no row is seen in two scales.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import cat
from torch.utils.data import TensorDataset

from unisono.client.task import Site, Task, create
from unisono.client.trainer.workbench import Workbench, unseen
from unisono.demo.task import BreastCancer
from unisono.plan import Plan, parse


class Elsewhere(BreastCancer):
    """The demo's task on rows that are given to it."""

    def __init__(self, site: Site, train: TensorDataset, held_out: TensorDataset) -> None:
        super().__init__(site)
        self._train, self._held_out = train, held_out

    def split(self) -> tuple[TensorDataset, TensorDataset]:
        """Return the rows given."""
        return self._train, self._held_out


def main(plan_file: Path, clients: int) -> None:
    """Write the two lines."""
    plan = parse(plan_file.read_bytes(), str(plan_file))
    sites = [create(BreastCancer, Site(str(n), n), plan.task_parameters) for n in range(1, clients + 1)]
    training, held_out = [site.train_data() for site in sites], [site.eval_data() for site in sites]
    _say({"rows": [[len(t), len(h)] for t, h in zip(training, held_out, strict=True)]})
    everyone = joined(held_out)
    alone = [accuracy(plan, Elsewhere(s.site, t, everyone)) for s, t in zip(sites, training, strict=True)]
    pooled = accuracy(plan, Elsewhere(Site("pooled"), joined(training), everyone))
    _say({"alone": alone, "pooled": pooled})


def accuracy(plan: Plan, task: Task) -> float:
    """Train from the plan's first model for as many epochs as the run has in all; return the accuracy."""
    epochs = plan.rounds.count * plan.training.epochs
    longer = plan.model_copy(update={"training": plan.training.model_copy(update={"epochs": epochs})})
    bench = Workbench(task, longer, "cpu", threads=1)
    model = bench.make().made
    task.train(model, bench.context("train", 1, unseen))
    right, rows = task.evaluate(model, bench.context("evaluate", 1, unseen))["accuracy"]
    return right / rows


def joined(parts: Sequence[TensorDataset]) -> TensorDataset:
    """Return all rows of some data sets as one."""
    return TensorDataset(*(cat(columns) for columns in zip(*(part.tensors for part in parts), strict=True)))


def _say(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
