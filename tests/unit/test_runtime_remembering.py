"""After a restart, who has not heard that a run ended is told: till then it keeps the files and secrets.

Found by crash points: killed between the end of a run and the last long polls.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from unisono import plan as plans
from unisono.base.ids import ClientName
from unisono.plan import Plan
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.process import open_hall
from unisono.server.rounds import Ended, RunEnded, begin
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.store import Change, Store

PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
ANNA, BELA = ClientName("anna"), ClientName("bela")


def ended(store: Store, reason: str, roster: tuple[ClientName, ...], wall: float) -> None:
    first = begin(PLAN, 0.0)
    run = store.create(plans.canonical(PLAN), plans.digest(PLAN), first, 0.0, wall, "operator")
    over = replace(first.run, roster=roster, stage=Ended("finished", reason), last=(3, (BELA,)))
    todo = tuple(number for number, _ in store.todo(run))
    store.save(run, Change(over, 0.0, wall, done=todo, facts=(RunEnded("finished", reason),)))


def test_everybody_s_last_run_is_known_after_a_restart(path: Path) -> None:
    async def story() -> None:
        hall = open_hall(Folder.find(path), Config())
        ended(hall.store, "the first", (ANNA, BELA), 10.0)
        ended(hall.store, "the second", (BELA,), 20.0)
        coordinator = Coordinator(hall)
        await coordinator.open()
        try:
            anna, bela = hall.ended[ANNA], hall.ended[BELA]
            assert (anna.run, anna.state, anna.reason, anna.counted) == (
                "r-0001",
                "finished",
                "the first",
                False,
            )
            assert (bela.run, bela.reason, bela.counted, bela.survivors) == ("r-0002", "the second", True, 1)
        finally:
            await coordinator.close()
            hall.workers.close()
            hall.store.close()

    asyncio.run(story())
