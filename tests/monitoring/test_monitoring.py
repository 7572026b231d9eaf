"""Alerts and dashboard against the real thing: Debian's Prometheus scrapes a coordinator that trains.

`make monitoring` runs it; it skips, saying why, where no Prometheus is.
"""

import json
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import CLIENTS, Federation, Process, eventually, found, free_port, plan

from unisono import telemetry

pytestmark = pytest.mark.monitoring
DEPLOY = Path(__file__).parents[2] / "deploy"
TOKEN = 2 * "0123456789abcdef"
BOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "unisono.json").read_text())


@pytest.fixture(scope="session")
def promtool() -> str:
    where = shutil.which("promtool")
    if where is None or shutil.which("prometheus") is None:
        pytest.skip("no Prometheus here; `make monitoring` installs Debian's where it may")
    return where


def checked(*words: str | Path) -> str:
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
    return done.stdout


def test_the_rules_are_right_and_each_alert_fires(promtool: str) -> None:
    folder = DEPLOY / "prometheus"
    assert "SUCCESS: 7 rules" in checked(promtool, "check", "rules", folder / "alerts.yml")
    checked(promtool, "test", "rules", folder / "alerts.test.yml")
    checked(promtool, "check", "config", "--syntax-only", folder / "prometheus.yml")


def expressions() -> list[str]:
    rules = (DEPLOY / "prometheus" / "alerts.yml").read_text()
    asked = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", ())]
    return [*asked, rules]


def test_every_metric_that_is_asked_for_exists() -> None:
    known = {metric.shown for metric in telemetry.METRICS}
    known |= {
        f"{m.name}{end}"
        for m in telemetry.METRICS
        if m.kind == "histogram"
        for end in ("_bucket", "_sum", "_count")
    }
    for text in expressions():
        named = set(re.findall(r"\bunisono_\w+", text))
        assert named <= known, named - known


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = found(tmp_path_factory.mktemp("monitoring") / "all")
    token = made.root / "ops.token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    made.environment |= {"UNISONO_OPS_PORT": str(free_port()), "UNISONO_OPS_TOKEN_FILE": str(token)}
    yield made
    made.close()


class Prometheus:
    """One of ours, with the rules and the scrape configuration of `deploy`, faster."""

    def __init__(self, folder: Path, target: str, token: Path) -> None:
        text = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
        text = (
            text.replace("15s", "1s")
            .replace("coordinator:8444", target)
            .replace("/run/ops/token", str(token))
        )
        config = folder / "prometheus.yml"
        config.write_text(text)
        shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
        self.address = f"http://127.0.0.1:{free_port()}"
        words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        words.append(f"--web.listen-address={self.address.removeprefix('http://')}")
        self.process = Process.begun(words, folder / "prometheus.log", {})

    def ask(self, way: str, **query: str) -> Any:
        asked = f"{self.address}{way}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310 - our own
            return json.load(answer)["data"]

    def value(self, expression: str) -> float | None:
        try:
            result = self.ask("/api/v1/query", query=expression)["result"]
        except OSError:
            return None
        return float(result[0]["value"][1]) if result else None


@pytest.fixture(scope="module")
def prometheus(
    promtool: str, federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    federation.serve()
    for name in CLIENTS:
        federation.client(name)
    target = f"127.0.0.1:{federation.environment['UNISONO_OPS_PORT']}"
    made = Prometheus(tmp_path_factory.mktemp("prometheus"), target, federation.root / "ops.token")
    yield made
    made.process.kill()


def test_a_run_is_scraped(federation: Federation, prometheus: Prometheus) -> None:
    eventually(lambda: prometheus.value('up{job="unisono"}') == 1, 30, lambda: prometheus.process.text)
    eventually(lambda: prometheus.value('unisono_clients{state="online"}') == 3, 30, lambda: "not online")
    federation.run(plan(3, 3, protection={"mode": "secagg"}, parameters={"seconds": 1.0})).finished()
    eventually(lambda: prometheus.value("unisono_rounds_published_total") == 3, 20, lambda: "no rounds")
    accepted = prometheus.value('unisono_updates_total{result="accepted"}')
    assert accepted is not None
    assert accepted >= 9
    assert prometheus.value('unisono_runs_ended_total{state="finished"}') == 1
    assert prometheus.value("sum(unisono_phase_seconds_count)")
    assert prometheus.ask("/api/v1/rules")["groups"][0]["rules"][0]["health"] == "ok"


@pytest.mark.parametrize("expression", [e for e in expressions() if not e.startswith("#")])
def test_what_the_board_asks_is_answered(prometheus: Prometheus, expression: str) -> None:
    asked = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
    assert prometheus.ask("/api/v1/query", query=asked)["resultType"] == "vector"


def test_the_coordinator_goes(federation: Federation, prometheus: Prometheus) -> None:
    coordinator = next(p for p in federation.processes if p.running and "coordinator" in p.log.name)
    assert coordinator.stop() == 0
    eventually(lambda: prometheus.value('up{job="unisono"}') == 0, 30, lambda: "it is up still")
