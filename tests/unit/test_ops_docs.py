"""docs/MONITORING.md tells of every metric, alert and path there is, and of no other."""

import re
from pathlib import Path

from test_docs_reference import rows

from unisono import telemetry

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "server" / "unisono" / "server" / "ops" / "static"
PAGE = "MONITORING.md"


def test_the_table_of_metrics() -> None:
    told = [tuple(cell.strip() for cell in row) for row in rows(PAGE, "## Metrics")]
    wanted = [
        (f"`{m.shown}`", m.kind, ", ".join(f"`{label}`" for label in m.labels) or "-", m.help)
        for m in telemetry.METRICS
    ]
    assert told == wanted


def test_the_table_of_alerts() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text()
    assert [row[0].strip("`") for row in rows(PAGE, "## Alerts")] == re.findall(r"- alert: (\w+)", rules)


def test_names_of_metrics_follow_the_conventions() -> None:
    names = [metric.name for metric in telemetry.METRICS]
    assert len(names) == len(set(names))
    for metric in telemetry.METRICS:
        assert re.fullmatch(r"unisono_[a-z_]+", metric.name)
        assert (metric.kind == "histogram") == bool(metric.buckets)
        assert metric.buckets == tuple(sorted(metric.buckets))


def test_the_dashboard_is_small_and_comes_from_here() -> None:
    files = [file for file in STATIC.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 200_000
    ours = [
        file
        for file in files
        if file.suffix in {".js", ".css", ".html"} and not file.name.startswith("uplot")
    ]
    for file in ours:
        text = file.read_text()
        assert not re.findall(r"https?://(?!HOST)", text), file.name
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text
        ), file.name
        assert not re.findall(r"<[^>]+\s(style|on\w+)=", text), file.name
        assert len(text.splitlines()) <= 500
    assert "MIT License" in (STATIC / "uplot.LICENSE.txt").read_text()
