"""A client under secure aggregation, end to end in one process: the sum, restarts, what stays."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from client_secure_world import RUN, Site, World, unit
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unisono.base.errors import Unreachable
from unisono.client.runtime.link import Outcome
from unisono.client.runtime.notices import RosterPinned
from unisono.client.session import Masking, Polling, Replying, Sending, Training
from unisono.crypto import sha256_hex
from unisono.secagg import server as s
from unisono.secagg.shared.encoding import kind_of

Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    worlds: list[World] = []

    def made(n: int = 4, **fields: object) -> World:
        worlds.append(World(tmp_path / str(len(worlds)), n, **fields))  # type: ignore[arg-type]
        return worlds[-1]

    yield made
    for world in worlds:
        world.stop()


def is_mean(found: NDArray[np.float32], numbers: list[int]) -> bool:
    return bool(np.abs(found - unit(numbers)).max() < 1.0)


def messages(site: Site) -> dict[str, set[bytes]]:
    """Return what left a site, by kind; masked bytes are "masked"."""
    found: dict[str, set[bytes]] = {}
    for raw in site.wire.leaves:
        kind = kind_of(raw) if raw.startswith(bytes(7)) else "masked"
        found.setdefault(kind, set()).add(raw)
    return found


SAID = ["advertise", "agree", "answer", "masked", "share", "upload"]


def test_a_round_gives_the_mean_and_is_audited(make: Make) -> None:
    world = make()
    world.run()
    assert is_mean(world.hub.mean(), [1, 2, 3, 4])
    for site in world.sites:
        assert site.kinds() == ["roster_pinned", "released", "upload_signed", "revealed"]
        assert site.bench.trained == ["1.1"]
        assert {kind: len(found) for kind, found in messages(site).items()} == dict.fromkeys(SAID, 1)
        lines = {line.kind: line.detail for line in site.vault.audit()}
        (masked,) = messages(site)["masked"]
        assert lines["upload_signed"]["sha256"] == sha256_hex(masked)
        assert (lines["roster_pinned"]["compared"], lines["revealed"]["survivors"]) == ("nobody", 4)
        (pinned,) = (notice for notice in site.seen if isinstance(notice, RosterPinned))
        assert (pinned.sites, pinned.compared, pinned.digest[:7]) == (4, False, "SHA256:")
    assert not world.hub.failed


def turns_of_a_life(world: World) -> int:
    """Return how many turns site 1 takes in a quiet life."""
    counted = 0

    def count(site: Site) -> None:
        nonlocal counted
        counted += site.number == 1

    world.run(count)
    return counted


def test_a_site_that_is_killed_before_any_turn_says_the_same_bytes_again(make: Make) -> None:
    for fatal in range(1, turns_of_a_life(make(3)) + 1):
        world, turns = make(3), Counter[int]()

        def kill(site: Site, world: World = world, turns: Counter[int] = turns, fatal: int = fatal) -> None:
            turns[site.number] += 1
            if site.number == 1 and turns[1] == fatal:
                site.restart()

        world.run(kill)
        assert is_mean(world.hub.mean(), [1, 2, 3]), fatal
        found = messages(world.sites[0])
        assert {kind: len(raw) for kind, raw in found.items()} == dict.fromkeys(SAID, 1), fatal
        assert not world.hub.failed


@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_call_is_lost_before_or_after_it_arrives(make: Make, when: str) -> None:
    """Each message of site 1 is lost once, or its reply is."""
    world = make(3)
    site, hub, lost = world.sites[0], world.hub, set[bytes]()
    say = hub.say

    def lossy(name: str, at: object, raw: bytes) -> None:
        fails = name == site.name and raw not in lost
        lost.add(raw)
        if not (fails and when == "before"):
            say(name, at, raw)  # type: ignore[arg-type]
        if fails:
            raise Unreachable("cannot reach hub", 1.0)

    hub.say = lossy  # type: ignore[method-assign]
    world.run()
    assert is_mean(hub.mean(), [1, 2, 3])
    assert {kind: len(raw) for kind, raw in messages(site).items()} == dict.fromkeys(SAID, 1)
    assert site.bench.trained == ["1.1"]


@pytest.mark.parametrize("harm", ["gone", "damaged", "cut"])
@pytest.mark.parametrize("which", ["vector", "masked"])
def test_files_that_are_not_whole_are_made_again_with_the_same_bytes(
    make: Make, which: str, harm: str
) -> None:
    world, hurt = make(3), list[str]()

    def hurting(site: Site) -> None:
        wanted = Masking if which == "vector" else Sending
        if site.number != 1 or hurt or not isinstance(site.state, wanted):
            return
        (path,) = site.vault.updates.glob(f"*.{which}")
        hurt.append(path.name)
        raw = path.read_bytes()
        if harm == "gone":
            path.unlink()
        else:
            path.write_bytes(raw[:-9] if harm == "cut" else raw[:99] + bytes([raw[99] ^ 1]) + raw[100:])
        site.restart()

    world.run(hurting)
    assert hurt
    assert is_mean(world.hub.mean(), [1, 2, 3])
    assert {kind: len(raw) for kind, raw in messages(world.sites[0]).items()} == dict.fromkeys(SAID, 1)


def test_a_vector_that_is_damaged_under_a_running_client_is_made_again(make: Make) -> None:
    world, hurt = make(3), list[str]()

    def hurting(site: Site) -> None:
        if site.number == 1 and not hurt and isinstance(site.state, Masking):
            (path,) = site.vault.updates.glob("*.vector")
            raw = path.read_bytes()
            path.write_bytes(raw[:99] + bytes([raw[99] ^ 1]) + raw[100:])
            hurt.append(path.name)

    world.run(hurting)
    assert is_mean(world.hub.mean(), [1, 2, 3])
    assert world.sites[0].bench.trained == ["1.1", "1.1"]


def test_secrets_go_with_the_round_and_releases_stay_until_the_run_ends(make: Make) -> None:
    world = make(3)
    world.run()
    site = world.sites[0]
    assert list(site.vault.updates.iterdir())
    at = 1, "published", "", True, 3
    site.driver._over(Outcome(RUN, *at))
    assert not list(site.vault.updates.iterdir())
    states = site.vault.rows("SELECT state FROM attempts", ())
    assert states == [(None,)]
    site.restart()
    (release,) = site.attempts.releases(RUN)
    assert release.attempt.attempt == 1
    site.driver._over(Outcome(RUN, 1, "finished", "", True, 3))
    assert not site.attempts.releases(RUN)
    assert site.attempts.run(RUN).highest == (1, 1)
    assert site.attempts.run(RUN).ended


def test_no_secret_of_an_attempt_is_on_the_disk_in_the_clear(make: Make) -> None:
    world = make(3)
    world.run(until=s.Agreeing)
    site = world.sites[0]
    state = next(iter(site.attempts._open.values()))
    secrets = [stream.key for stream in state.streams]  # type: ignore[attr-defined]
    secrets += [held.b for held in state.held] + [held.v for held in state.held]  # type: ignore[attr-defined]
    assert len(secrets) == 9
    on_disk = b"".join(path.read_bytes() for path in site.folder.rglob("*") if path.is_file())
    assert not [secret for secret in secrets if secret in on_disk]
    assert all(path.stat().st_mode & 0o077 == 0 for path in site.vault.updates.iterdir())
    assert (site.folder / "state.db").stat().st_mode & 0o077 == 0


def test_one_write_for_each_leg(make: Make) -> None:
    """States, flags and audit lines of a leg are one transaction: one fsync."""
    world = make(3)
    site, commits = world.sites[0], list[str]()
    site.vault._db.set_trace_callback(lambda text: commits.append(text) if text == "COMMIT" else None)
    world.run()
    # pin; advertise, share, the vector's row, commit, upload, agree, reveal
    assert len(commits) == 8


def test_drop_outs_at_every_leg(make: Make) -> None:
    """Of eight: one never advertises, one never shares, one never uploads."""
    world = make(8)
    hub, stages = world.hub, (s.Advertising, s.Sharing, s.Uploading)

    def leave(site: Site) -> None:
        if site.number <= 3 and isinstance(hub.stage, stages[site.number - 1]):
            hub.away.add(site.name)

    world.sites[0].hub.away.add(world.sites[0].name)
    world.run(leave)
    assert is_mean(hub.mean(), [4, 5, 6, 7, 8])


def retry(world: World, only: bool = False) -> None:
    """Give an attempt up with its certificate and begin the next one."""
    hub = world.hub
    outcome = s.Outcome.of(hub.stage)
    assert outcome.certificate is not None
    hub.certificates = (*hub.certificates, outcome.certificate.encode())
    hub.away.clear()
    hub.open(outcome.survivors if only else ())


def test_an_abandoned_attempt_is_followed_by_another_with_the_stored_vector(make: Make) -> None:
    world = make(4)
    world.run(until=s.Agreeing)
    world.hub.close()
    world.run()
    retry(world)
    world.run()
    assert is_mean(world.hub.mean(), [1, 2, 3, 4])
    signed = [site for site in world.sites if "abandon" in messages(site)]
    assert len(signed) >= 2  # n + c - t + 1
    for site in signed:
        assert len(messages(site)["abandon"]) == 1
        assert site.kinds().count("abandoned") == 1
        assert not list(site.vault.updates.glob("*-1-1-*.masked"))
    for site in world.sites:
        assert site.bench.trained == ["1.1"]  # nothing in a vector depends on the attempt
        assert len(messages(site)["masked"]) == 2


def test_an_open_attempt_may_only_be_repeated_with_the_same_set(make: Make) -> None:
    """Nobody reveals, the set is certified: the same sum once more, and after a restart."""
    world = make(4)

    def nobody_reveals(site: Site) -> None:
        if isinstance(world.hub.stage, s.Revealing) and world.hub.attempt == 1:
            world.hub.away.update(world.hub.who)

    world.run(nobody_reveals)
    assert isinstance(world.hub.stage, s.Revealing)
    retry(world, only=True)
    for site in world.sites:
        site.restart()
    world.run()
    assert is_mean(world.hub.mean(), [1, 2, 3, 4])
    assert all(len(messages(site)["masked"]) == 2 for site in world.sites)


def test_an_open_attempt_without_a_certificate_stops_the_round(make: Make) -> None:
    world = make(4)
    world.run(until=s.Agreeing)
    world.hub.open()
    world.run()
    assert {answer.code for _, answer in world.hub.failed} == {"already_released"}
    assert len(world.hub.failed) == 4
    world.hub.away.clear()
    world.run()
    assert len(world.hub.failed) == 4  # it is said once


def test_the_next_round_starts_from_another_model(make: Make) -> None:
    from client_secure_world import model_of  # noqa: PLC0415

    world = make(3)
    world.run()
    hub = world.hub
    hub.round, hub.attempt, hub.model = 2, 0, model_of(1)
    hub.open()
    world.run()
    assert is_mean(hub.mean(), [1, 2, 3])
    assert [site.bench.trained for site in world.sites] == [["1.1", "2.1"]] * 3


def test_an_evaluation_sends_a_head_only(make: Make) -> None:
    world = make(3)
    world.hub.what = "evaluate"
    world.run()
    assert isinstance(world.hub.stage, s.Revealing)
    (masked,) = messages(world.sites[0])["masked"]
    assert len(masked) == 8 * 2


@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([Replying, Training, Masking, Sending, Polling])))
)
def test_any_restarts_leave_one_message_of_a_kind(kills: list[tuple[int, type]]) -> None:
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        world, left = World(Path(folder) / "w", 3), Counter(kills)
        try:

            def kill(site: Site) -> None:
                key = site.number - 1, type(site.state)
                if left[key] > 0:
                    left[key] -= 1
                    site.restart()

            world.run(kill)
            assert is_mean(world.hub.mean(), [1, 2, 3])
            for site in world.sites:
                assert {k: len(v) for k, v in messages(site).items()} == dict.fromkeys(SAID, 1)
        finally:
            world.stop()
