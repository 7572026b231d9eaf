"""A link of 12 kB/s with megabytes of buffers in it: slow, and not dead."""

from collections.abc import Iterator

import pytest
from harness import Federation, free_port, plan
from relay import Relays

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
RATE = 12_000.0


@pytest.fixture
def relays() -> Iterator[Relays]:
    made = Relays()
    yield made
    made.close()


def test_a_site_behind_a_slow_link_sends_its_update(federation: Federation, relays: Relays) -> None:
    """A chunk of 1 MiB takes 87 s there: its sender was lost after 60, and sent it again for ever.

    Here the plan's patience is half of that, and the relay holds megabytes, so that pings come too late:
    after two broken connections the update arrives.
    """
    federation.serve()
    port = free_port()
    link = relays.add(("127.0.0.1", port), ("127.0.0.1", federation.port))
    settings = federation.site("bela") / "client" / "client.toml"
    settings.write_text(settings.read_text().replace(str(federation.port), str(port)))
    federation.clients("anna", "bela")
    link.slow(0.0, RATE)
    size = 150_000  # values: 0.6 MB, 50 s
    run = federation.run(plan(1, parameters={"size": size}, rounds={"count": 1, "idle_seconds": 30.0}))
    done = run.until(lambda d: bool(d["rounds"]) and d["rounds"][0]["survivors"] is not None, 400)
    assert done["rounds"][0]["attempts"] == 1
    assert done["rounds"][0]["survivors"] == ["anna", "bela"]
