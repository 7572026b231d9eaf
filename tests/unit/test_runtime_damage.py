"""One damaged run is its own misfortune: the coordinator starts, and the others go on."""

import asyncio
import sqlite3
from pathlib import Path

from structlog.testing import capture_logs

from unisono import plan as plans
from unisono.server.config import Config
from unisono.server.folder import Folder
from unisono.server.founding import found
from unisono.server.process import open_hall
from unisono.server.rounds import begin
from unisono.server.runtime.coordinator import Coordinator


def test_a_run_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    found(tmp_path, ["localhost"], 8443, "cardio", 1_700_000_000.0)
    folder, config = Folder(tmp_path / "coordinator"), Config.load()
    hall = open_hall(folder, config)
    plan = plans.parse(b'task = "t"')
    for _ in range(2):
        hall.store.create(plans.canonical(plan), plans.digest(plan), begin(plan, 0.0), 0.0, 0.0, "operator")
    hall.workers.close()
    hall.store.close()
    with sqlite3.connect(folder.database) as database:
        database.execute("UPDATE runs SET machine = '{}' WHERE id = 'r-0001'")
    database.close()

    async def start() -> list[str]:
        again = open_hall(folder, config)
        coordinator = Coordinator(again)
        await coordinator.open()
        active: list[str] = sorted(again.runs)
        await coordinator.close()
        again.workers.close()
        again.store.close()
        return active

    with capture_logs() as logged:
        assert asyncio.run(start()) == ["r-0002"]
    assert [line["run"] for line in logged if line["event"] == "run_not_loaded"] == ["r-0001"]
