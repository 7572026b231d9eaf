"""A link of 12 kB/s with megabytes of buffers in it: slow, and not dead.

`test_services_slow_links.py` plays the same ten times as fast, in one process.
"""

import time
from collections.abc import Iterator

import pytest
from harness import Document, Federation, Watch, eventually, free_port, plan
from relay import Relay, Relays

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
RATE = 12_000.0
VALUES = 75_000  # 0.3 MB, 25 s
CONNECTING = 20_000  # bytes of a handshake, a hello and some answers


@pytest.fixture
def relays() -> Iterator[Relays]:
    made = Relays()
    yield made
    made.close()


def behind(federation: Federation, relays: Relays, name: str) -> Relay:
    """Put a site behind a link of its own; it is a fast one yet."""
    port = free_port()
    link = relays.add(("127.0.0.1", port), ("127.0.0.1", federation.port))
    settings = federation.site(name) / "client" / "client.toml"
    settings.write_text(settings.read_text().replace(str(federation.port), str(port)))
    return link


def rows(document: Document, round_: int) -> Iterator[Document]:
    """What is shown of bela in a round."""
    status = document["status"] or {}
    if status.get("round") == round_:
        yield from (row for row in status["clients"] if row["name"] == "bela")


def fetching(federation: Federation, link: Relay, values: int = VALUES) -> Watch:
    """Return a run in whose second round bela has to fetch a model, on a link that is slow from now on."""
    told: Document = {"parameters": {"size": values, "seconds": 1.0}, "cohort": {"min_survivors": 2}}
    run = federation.run(plan(2, **told, rounds={"count": 2, "idle_seconds": 30.0}))
    federation.trains("bela", 1)
    link.slow(0.0, RATE, up=0.0)  # what goes up here is the update of the first round
    return run


def published(document: Document) -> bool:
    """Tell whether the second round is over."""
    return bool(document["rounds_published"] == 2)


def kept(federation: Federation) -> int:
    """Return how many bytes of an unfinished model lie in bela's cache, about."""
    cache = federation.site("bela") / "client" / "cache"
    return sum(path.stat().st_size for end in ("part", "rest") for path in cache.glob(f"*.{end}"))


def test_a_site_behind_a_slow_link_sends_its_update(federation: Federation, relays: Relays) -> None:
    """A chunk of 1 MiB takes 87 s there: its sender was lost after 60, and sent it again for ever.

    Here the plan's patience is half of that, and the relay holds megabytes, so that pings come too late:
    after two broken connections the update arrives.
    """
    federation.serve()
    link = behind(federation, relays, "bela")
    federation.clients("anna", "bela")
    link.slow(0.0, RATE)
    size = 150_000  # values: 0.6 MB, 50 s
    run = federation.run(plan(1, parameters={"size": size}, rounds={"count": 1, "idle_seconds": 30.0}))
    done = run.until(lambda d: bool(d["rounds"]) and d["rounds"][0]["survivors"] is not None, 400)
    assert done["rounds"][0]["attempts"] == 1
    assert done["rounds"][0]["survivors"] == ["anna", "bela"]


def test_a_site_behind_a_slow_link_gets_the_model(federation: Federation, relays: Relays) -> None:
    """The pings' answers stood behind what the relay held: every ten seconds all of it came once more."""
    federation.serve()
    link = behind(federation, relays, "bela")
    federation.clients("anna", "bela")
    run, before = fetching(federation, link), link.opened
    began, down = time.monotonic(), link.down
    done = run.until(published, 200)
    seconds, came = time.monotonic() - began, link.down - down
    print(f"{4 * VALUES} bytes: {seconds:.0f} s, {came} bytes, {link.opened - before} connections more")
    assert done["rounds"][1]["attempts"] == 1
    assert done["rounds"][1]["survivors"] == ["anna", "bela"]
    assert link.opened - before <= 3
    assert came < 2 * 4 * VALUES
    shown = [row for document in run.documents for row in rows(document, 2)]
    fetched = [row["done"] for row in shown if row["stage"] == "downloading" and row["done"] < row["total"]]
    assert len(set(fetched)) > 3
    assert fetched == sorted(fetched), "it began again"
    assert {row["state"] for row in shown} <= {"working", "uploaded"}


def test_a_link_that_is_slow_and_cut_every_20_seconds(federation: Federation, relays: Relays) -> None:
    """Each connection brings the model nearer."""
    federation.serve()
    link = behind(federation, relays, "bela")
    federation.clients("anna", "bela")
    run = fetching(federation, link, 2 * VALUES)
    places = [0]
    while not any(published(document) for document in run.documents):
        time.sleep(20)
        link.cut()
        time.sleep(2)  # what came is written down when the connection has gone
        places.append(kept(federation))
        print(f"kept after {len(places) - 1} cuts: {places[-1]} bytes")
        assert places[-1] > places[-2] or any(published(document) for document in run.documents), places
    done = run.documents[-1]
    assert done["rounds"][1]["attempts"] == 1
    assert done["rounds"][1]["survivors"] == ["anna", "bela"]


def test_a_coordinator_that_dies_under_a_slow_download(federation: Federation, relays: Relays) -> None:
    coordinator = federation.serve()
    link = behind(federation, relays, "bela")
    federation.clients("anna", "bela")
    run, before = fetching(federation, link), link.down
    eventually(lambda: link.down - before > 3 * VALUES, 120, lambda: f"{link.down - before} bytes only")
    coordinator.kill()
    federation.serve()
    done = run.until(published, 300)
    assert done["rounds"][1]["survivors"] == ["anna", "bela"]
    print(f"{4 * VALUES} bytes: {link.down - before} came")
    assert link.down - before < 2 * 4 * VALUES + 3 * CONNECTING


def test_a_client_is_ended_in_the_middle_of_a_slow_download(federation: Federation, relays: Relays) -> None:
    federation.serve()
    link = behind(federation, relays, "bela")
    _, bela = federation.clients("anna", "bela")
    run = fetching(federation, link)
    eventually(lambda: kept(federation) > 0 and bela.text.count("event=connected") > 1, 60, lambda: bela.text)
    time.sleep(8)
    began = time.monotonic()
    assert bela.stop(seconds=10) == 0
    print(f"ended within {time.monotonic() - began:.1f} s")
    assert time.monotonic() - began < 3.0
    place = kept(federation)
    assert place > 100_000
    before = link.down
    federation.client("bela")
    done = run.until(published, 200)
    assert done["rounds"][1]["survivors"] == ["anna", "bela"]
    print(f"{4 * VALUES} bytes: {place} were kept, {link.down - before} came")
    assert link.down - before < 2 * 4 * VALUES - place + 2 * CONNECTING
