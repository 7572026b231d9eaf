"""Four sites that train together, looked at through the ops port."""

import re
from pathlib import Path

from harness import Federation, Watch, eventually, plan

TASKS = Path(__file__).with_name("readmission.py")
SITES = ("hospital-a", "hospital-b", "hospital-c", "clinic-d")


class Hospital(Federation):
    """Four sites that train a model of readmissions."""

    address: str = ""

    def begin(self) -> None:
        self.environment["UNISONO_OPS_PORT"] = "0"
        coordinator = self.serve()
        coordinator.says("dashboard")
        found = re.search(r"dashboard +(http://localhost:\d+)", coordinator.text)
        assert found, coordinator.text
        self.address = found[1]

    def site_joins(self, *names: str) -> None:
        for name, token in zip(names, self.tokens(*names), strict=True):
            joined = self.join(name, token)
            assert joined.code == 0, joined.err
            words = ("client", "--dir", self.site(name), "--task", f"readmission={TASKS}:Readmission")
            self._start(name, *words)
        eventually(lambda: self.online() == len(names), 30, lambda: "the clients never connected")

    def online(self) -> int:
        return int(self.operate("health")["clients_online"])

    def train(self, count: int, mode: str = "secagg", **parameters: float) -> Watch:
        """Start a run in which who is silent is given up after a minute."""
        patience = {"idle_seconds": 60.0}
        return self.run(
            plan(
                count,
                len(SITES),
                "readmission",
                protection={"mode": mode},
                rounds=patience,
                parameters=parameters,
            )
        )
