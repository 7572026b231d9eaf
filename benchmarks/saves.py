"""What saving a run costs: CPU and wall time of the database in a round, without network, models and sums.

    python benchmarks/saves.py [--rounds 50] [--clients 8] [--alone]

Plays a run through the real machine into a real SQLite file.  Uploads that arrive together are saved
together, as the driver does: here two at a time, or with --alone each by itself.
"""

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unisono import plan as plans
from unisono.base.ids import ClientName, Digest
from unisono.crypto import sha256_hex
from unisono.plan import Plan
from unisono.server.rounds import (
    Aggregate,
    Aggregated,
    Effect,
    Ended,
    Event,
    Fact,
    InRound,
    Joined,
    ModelReceived,
    Offered,
    Uploaded,
    begin,
    step,
)
from unisono.server.store import Change, Store, open_store


@dataclass
class Playing:
    """A run and what its saves took."""

    store: Store
    plan: Plan
    clients: list[ClientName]
    together: int
    saves: Counter[str] = field(default_factory=Counter)
    cpu: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    wall: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        first = begin(self.plan, 0.0)
        self.run, self.now = first.run, 0.0
        self.id = self.store.create(
            plans.canonical(self.plan), plans.digest(self.plan), first, 0.0, 0.0, "bench"
        )
        self.todo: dict[int, Effect] = {}
        self.done: list[int] = []

    def save(self, what: str, events: Iterable[Event], done: tuple[int, ...] = ()) -> None:
        """Step through events, and save what they did."""
        self.now += 0.01
        taken, run = tuple(events), self.run
        effects: list[Effect] = []
        facts: list[Fact] = []
        for event in taken:
            result = step(self.plan, run, event, self.now)
            run, effects, facts = result.run, [*effects, *result.effects], [*facts, *result.facts]
        change = Change(
            run, self.now, 1.7e9 + self.now, tuple(effects), (*self.done, *done), tuple(facts), events=taken,
            traffic=((run.round + 1, 1_000_000, 1_000_000),),
        )  # fmt: skip
        cpu, wall = time.process_time(), time.perf_counter()
        numbers = self.store.save(self.id, change)
        self.cpu[what] += time.process_time() - cpu
        self.wall[what] += time.perf_counter() - wall
        self.saves[what] += 1
        self.run, self.done = run, []
        for number in change.done:
            self.todo.pop(number, None)
        self.todo |= dict(zip(numbers, effects, strict=True))

    def play(self) -> None:
        """Play the whole run."""
        manifest, model = Digest(sha256_hex(b"manifest")), Digest(sha256_hex(b"model"))
        self.save("start", (Offered(client) for client in self.clients))
        self.save("start", (Joined(client, manifest, model) for client in self.clients))
        self.save("start", [ModelReceived(self.clients[0], model, 1.0)])
        while not isinstance(self.run.stage, Ended):
            self.round()

    def round(self) -> None:
        """Play what is the same in every round: uploads, sum, what was ordered."""
        stage = self.run.stage
        assert isinstance(stage, InRound)
        number, attempt = stage.round, stage.attempt
        for group in groups(self.clients, self.together):
            digests = [(client, Digest(sha256_hex(f"{client} {number}".encode()))) for client in group]
            self.save("upload", [Uploaded(c, number, attempt, d, 1_000_000) for c, d in digests])
        ((order, effect),) = ((n, e) for n, e in self.todo.items() if isinstance(e, Aggregate))
        made = Digest(sha256_hex(f"model {number}".encode())) if effect.what == "train" else effect.model
        metrics = (("accuracy", 0.9), ("loss", 0.5))
        self.save("aggregated", [Aggregated(number, attempt, made, metrics, (1.0,))], (order,))
        self.done = list(self.todo)  # forget, prune: struck off with the next save


def groups(clients: list[ClientName], size: int) -> Iterator[list[ClientName]]:
    for at in range(0, len(clients), size):
        yield clients[at : at + size]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--alone", action="store_true", help="no two uploads in one save")
    given = parser.parse_args()
    plan = Plan.model_validate(
        {"task": "x", "rounds": {"count": given.rounds}, "cohort": {"size": given.clients},
         "protection": {"mode": "sealed"}}
    )  # fmt: skip
    names = [ClientName(f"client-{number:03}") for number in range(given.clients)]
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder))
        playing = Playing(store, plan, names, 1 if given.alone else 2)
        playing.play()
        store.close()
    print(f"{given.rounds} rounds, {given.clients} clients, milliseconds")
    print(f"{'save':<12}{'saves':>6}{'CPU each':>10}{'wall each':>11}{'CPU a round':>13}{'wall a round':>14}")
    for what in playing.saves:
        row(what, playing.saves[what], playing.cpu[what], playing.wall[what], given.rounds)
    cpu, wall = sum(playing.cpu.values()), sum(playing.wall.values())
    row("all", playing.saves.total(), cpu, wall, given.rounds)


def row(what: str, saves: float, cpu: float, wall: float, rounds: int) -> None:
    each = f"{1000 * cpu / saves:>10.2f}{1000 * wall / saves:>11.2f}"
    print(f"{what:<12}{saves:>6.0f}{each}{1000 * cpu / rounds:>13.2f}{1000 * wall / rounds:>14.2f}")


if __name__ == "__main__":
    main()
