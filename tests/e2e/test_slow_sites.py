"""Sites that limit themselves, as real processes: waited for, named as the reason, counted like others."""

import json
import time

import pytest
from harness import Document, Federation, plan

pytestmark = pytest.mark.e2e
DAY = 86_400


def limit(federation: Federation, name: str, **network: str) -> None:
    """Write a site's [network]."""
    with (federation.site(name) / "client" / "client.toml").open("a") as file:
        file.write("\n[network]\n")
        file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in network.items())


def says(document: Document, words: str) -> bool:
    return words in str((document["status"] or {}).get("sentence"))


def test_a_site_that_sends_slowly_is_waited_for_and_named(federation: Federation) -> None:
    """Ten megabytes at one a second: longer than the plan waits for who does not move at all."""
    limit(federation, "bela", upload_limit="1MB/s")
    coordinator = federation.serve()
    federation.clients("anna", "bela")
    began = time.monotonic()
    run = federation.run(plan(1, parameters={"size": 2_500_000}, rounds={"count": 1, "idle_seconds": 6.0}))
    told = run.until(lambda d: says(d, "bela sends at most 1 MB/s"), 60)
    assert [row["note"] for row in told["status"]["clients"] if row["name"] == "bela"] == [
        "sends at most 1 MB/s"
    ]
    done = run.finished(120)
    assert time.monotonic() - began > 8.0
    assert done["rounds"][0]["survivors"] == ["anna", "bela"]
    assert "bela sends at most 1 MB/s" in coordinator.text


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["secagg", "sealed"])
def test_a_site_s_hours_are_waited_for_and_named(federation: Federation, mode: str) -> None:
    """The site's clock says half a minute before noon, when its hours begin."""
    limit(federation, "bela", hours="12:00-11:30")
    federation.serve()
    names = ("anna", "bela", "cora")
    federation.clients("anna", "cora")
    ahead = (DAY // 2 - 30 - int(time.time())) % DAY
    federation.environment["TZ"] = f"SITE-{ahead // 3600:02}:{ahead // 60 % 60:02}:{ahead % 60:02}"
    bela = federation.client("bela")
    rounds = {"count": 1, "idle_seconds": 6.0}
    run = federation.run(plan(1, size=3, protection={"mode": mode}, rounds=rounds))
    run.until(lambda d: says(d, "bela sends from 12:00 to 11:30 only"), 60)
    done = run.finished(120)
    assert done["rounds"][0]["attempts"] == 1
    assert done["rounds"][0]["survivors"] == list(names)
    assert bela.text.count("event=resting") in {1, 2}  # the first model, then the round: each once
