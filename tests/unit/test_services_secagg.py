"""Secure aggregation over real mutual TLS: honest sites, a restart in every leg, and sites that are not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from federation_world import MANIFEST, MODEL, Federation, Play, refused, serving, until
from secure_site import SECURE, SecureSite

from unisono.base.ids import ClientName, Digest
from unisono.crypto import encode, sha256
from unisono.secagg.shared.messages import Agree, Answer, Share, Upload
from unisono.secagg.shared.roster import Entry
from unisono.server.rounds import InRound
from unisono.wire.v1 import types_pb2 as types

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from unisono.codec import Spec
    from unisono.wire.v1 import round_pb2 as rounds

CHANGES = ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 2.0])
NAMES = ("a", "b", "c", "d")


async def enrolled(federation: Federation) -> list[SecureSite]:
    """Enrol four sites, start a run, let it come to its first round."""
    sites = []
    for name, change in zip(NAMES, CHANGES, strict=True):
        sites.append(SecureSite(await federation.client(name), change))
    for site in sites:
        await site.caller.hello()
    await federation.start(SECURE)
    for site in sites:
        await site.caller.join()
    source = sites[0]
    await source.caller.send_model()
    return sites


async def round_of(sites: list[SecureSite]) -> None:
    """Play a whole attempt; everybody says the same thing before anybody says the next."""
    for leg in ("Invitation", "Roster", "Deal", "Survivors"):
        assert set(await asyncio.gather(*(site.step() for site in sites))) == {leg}
    await asyncio.gather(*(reveal(site) for site in sites))


async def reveal(site: SecureSite) -> None:
    """Answer the quorum, unless enough others have by now."""
    told = await site.told()
    await site.say(told, await site.answer(told))


async def model(federation: Federation, round_: int = 1) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the model of this round, once it is there."""
    (lineage,) = federation.hall.runs.values()
    await until(lambda: lineage.run.round >= round_)
    run = lineage.run
    assert run.model is not None
    with federation.hall.blobs.open(run.model) as reader:
        raw = reader.read(len(MANIFEST.header), 8)
    return np.frombuffer(raw, "<f4")


def test_the_model_moves_by_the_mean_that_nobody_sent(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            await round_of(sites)
            start = np.frombuffer(MODEL[-8:], "<f4")
            np.testing.assert_allclose(await model(federation), start + np.mean(CHANGES, 0), atol=1e-3)
            lines = [line.entry for line in federation.hall.store.audit(run="r-0001")]
            told = [json.loads(entry.body) for entry in lines if entry.kind == "uploaded"]
            assert [sorted(body) for body in told] == [["attempt", "bytes", "digest", "round"]] * 4
            assert len({body["bytes"] for body in told}) == 1, "sizes tell nobody from another"

    play(story())


def test_the_coordinator_goes_on_in_every_leg_after_a_restart(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
        for leg in ("Invitation", "Roster", "Deal", "Survivors"):
            async with serving(path) as federation:
                await back(federation, sites)
                kinds = await asyncio.gather(*(site.step() for site in sites[:2]))
                assert set(kinds) == {leg}
            async with serving(path) as federation:  # in the middle of the leg
                await back(federation, sites)
                assert {await site.step() for site in sites[2:]} == {leg}
        async with serving(path) as federation:
            await back(federation, sites)
            await asyncio.gather(*(reveal(site) for site in sites))
            start = np.frombuffer(MODEL[-8:], "<f4")
            np.testing.assert_allclose(await model(federation), start + np.mean(CHANGES, 0), atol=1e-3)
            assert next(iter(federation.hall.runs.values())).run.last == (1, NAMES)
            shown = await federation.show()
            assert [found["attempts"] for found in shown["rounds"]] == [1]  # type: ignore[attr-defined]

    play(story())


async def back(federation: Federation, sites: list[SecureSite]) -> None:
    """Connect the sites to a coordinator that was started again."""
    for site in sites:
        old = site.caller
        await old.close()
        site.caller = federation.caller(old.key, old.certificate, old.name)
        site.caller.signing = old.signing
        site.cursor = 0
        await site.caller.hello()


# sites that are not honest: reference 1.5, by its codes


Spoil = Callable[[bytes], bytes]


async def finished_without(federation: Federation, sites: list[SecureSite], leg: str) -> None:
    """Let the others finish the round in the leg after `leg`."""
    legs = ("Invitation", "Roster", "Deal", "Survivors")
    for later in legs[legs.index(leg) + 1 :]:
        assert set(await asyncio.gather(*(site.step() for site in sites))) == {later}
    await asyncio.gather(*(reveal(site) for site in sites))
    await model(federation)
    (lineage,) = federation.hall.runs.values()
    assert lineage.run.last == (1, tuple(site.name for site in sites))


async def upto(sites: list[SecureSite], leg: str) -> None:
    """Play honestly until this leg has begun."""
    for earlier in ("Invitation", "Roster", "Deal", "Survivors"):
        if earlier == leg:
            return
        await asyncio.gather(*(site.step() for site in sites))


def other_name(data: bytes) -> bytes:
    return replace(Entry.decode(data), name=ClientName("a")).encode()


def unsigned(data: bytes) -> bytes:
    return replace(Entry.decode(data), signature=bytes(64)).encode()


def one_key_twice(data: bytes) -> bytes:
    entry = Entry.decode(data)
    return replace(entry, c=entry.s).encode()


def short_key(data: bytes) -> bytes:
    key = Entry.decode(data).ec
    return data.replace(encode(key), encode(key[:-1]) + b"x")


def fewer_parcels(data: bytes) -> bytes:
    share = Share.decode(data)
    return replace(share, parcels=share.parcels[1:]).encode()


def longer_vault(data: bytes) -> bytes:
    share = Share.decode(data)
    return replace(share, vault=share.vault + b"x").encode()


def another_model(data: bytes) -> bytes:
    return replace(Share.decode(data), model=Digest("ab" * 32)).encode()


def unsigned_share(data: bytes) -> bytes:
    return replace(Share.decode(data), signature=bytes(64)).encode()


def shorter_upload(data: bytes) -> bytes:
    upload = Upload.decode(data)
    return replace(upload, length=upload.length - 8).encode()


def unsigned_upload(data: bytes) -> bytes:
    return replace(Upload.decode(data), signature=bytes(64)).encode()


CASES: tuple[tuple[str, Spoil, str], ...] = (
    ("Invitation", other_name, "wrong_identity"),
    ("Invitation", unsigned, "bad_signature"),
    ("Invitation", one_key_twice, "bad_signature"),
    ("Invitation", short_key, "bad_message"),
    ("Roster", fewer_parcels, "incomplete_shares"),
    ("Roster", longer_vault, "incomplete_shares"),
    ("Roster", another_model, "other_context"),
    ("Roster", unsigned_share, "bad_signature"),
    ("Deal", shorter_upload, "bad_length"),
    ("Deal", unsigned_upload, "bad_signature"),
)


@pytest.mark.parametrize(("leg", "spoil", "code"), CASES)
def test_who_breaks_the_protocol_is_named_and_left_out(
    path: Path, play: Play, leg: str, spoil: Spoil, code: str
) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            *honest, liar = sites
            await upto(sites, leg)
            told = await liar.told()
            spoilt = spoil(await liar.answer(told))
            assert (await refused(liar.say(told, spoilt)))[1] == code
            assert {await site.step() for site in honest} == {leg}
            if code == "bad_message":  # nothing that a client can be held to: it is as if it were silent
                await liar.leave()
            await finished_without(federation, honest, leg)

    play(story())


def test_a_survivor_that_signs_another_set_does_not_count_towards_the_quorum(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            *honest, liar = sites
            await upto(sites, "Survivors")
            told = await liar.told()
            await liar.answer(told)
            assert (await refused(liar.say(told, Agree(bytes(64)).encode())))[1] == "bad_signature"
            assert {await site.step() for site in honest} == {"Survivors"}
            await asyncio.gather(*(reveal(site) for site in honest))
            await model(federation)
            (lineage,) = federation.hall.runs.values()
            assert lineage.run.last == (1, NAMES)  # its update is in the sum that it signed for

    play(story())


def test_both_kinds_of_shares_and_padded_answers_are_refused(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            *honest, liar = sites
            for _ in range(4):
                await asyncio.gather(*(site.step() for site in sites))
            told = await liar.told()
            answer = Answer.decode(await liar.answer(told))
            both = replace(answer, vaults=answer.selves)
            assert (await refused(liar.say(told, both.encode())))[1] == "bad_shares"
            twice = replace(answer, selves=(*answer.selves, answer.selves[0]))
            assert (await refused(liar.say(told, twice.encode())))[1] == "bad_shares"
            await asyncio.gather(*(reveal(site) for site in honest))
            await model(federation)

    play(story())


def test_wrong_shares_are_outvoted_and_their_sender_is_named(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            liar, *honest = sites
            for _ in range(4):
                await asyncio.gather(*(site.step() for site in sites))
            told = await liar.told()
            answer = Answer.decode(await liar.answer(told))
            wrong = tuple(replace(opened, share=bytes(32) + b"\x05") for opened in answer.selves)
            await liar.say(told, Answer(wrong, ()).encode())  # well formed: nobody can tell yet
            for site in honest:
                await reveal(site)
            start = np.frombuffer(MODEL[-8:], "<f4")
            np.testing.assert_allclose(await model(federation), start + np.mean(CHANGES, 0), atol=1e-3)

    play(story())


def test_a_vault_that_does_not_open_costs_the_attempt_and_not_the_run(path: Path, play: Play) -> None:
    """The same survivors open their sum in the next attempt, whose fourth place somebody else could take."""

    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            *honest, liar = sites
            await asyncio.gather(*(site.step() for site in sites))
            told = await liar.told()
            share = Share.decode(await liar.answer(told))
            await liar.say(told, replace(share, vault=bytes(len(share.vault))).encode())
            for site in honest:
                assert await site.step() == "Roster"
            await liar.leave()
            for leg in ("Deal", "Survivors"):
                assert set(await asyncio.gather(*(site.step() for site in honest))) == {leg}
            for site in honest:
                await reveal(site)
            (lineage,) = federation.hall.runs.values()
            await until(lambda: lineage.run.attempt == 2)
            assert lineage.run.faulty == {liar.name}
            await liar.caller.hello()
            for leg in ("Invitation", "Roster", "Deal"):
                assert set(await asyncio.gather(*(site.step() for site in sites))) == {leg}
            for site in honest:
                assert await site.step() == "Survivors"
            await asyncio.gather(*(reveal(site) for site in honest))
            await model(federation)
            assert lineage.run.last == (1, ("a", "b", "c"))

    play(story())


@pytest.mark.parametrize("word", [0, 2])
def test_a_vector_that_does_not_count_once_opens_to_a_sum_that_is_not_published(
    path: Path, play: Play, monkeypatch: pytest.MonkeyPatch, word: int
) -> None:
    honest = SecureSite.vector

    def counted(site: SecureSite, told: rounds.Secure, spec: Spec) -> NDArray[np.uint64]:
        words = honest(site, told, spec)
        if site.name == "d":
            words[spec.head_offset] = word << 24
        return words

    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            monkeypatch.setattr(SecureSite, "vector", counted)
            for leg in ("Invitation", "Roster", "Deal", "Survivors"):
                assert set(await asyncio.gather(*(site.step() for site in sites))) == {leg}
            await asyncio.gather(*(reveal(site) for site in sites))
            (lineage,) = federation.hall.runs.values()
            await until(lambda: lineage.run.attempt == 2)
            assert lineage.run.round == 0
            assert isinstance(lineage.run.stage, InRound)
            assert f"counts {3 + word} clients" in lineage.run.stage.failures[0]

    play(story())


def test_an_update_of_another_size_or_of_other_bytes_is_not_counted(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            *honest, liar = sites
            await upto(sites, "Deal")
            told = await liar.told()
            for size in (0, 8, 1 << 20):
                sent = liar.caller.send(types.UploadKey.UPDATE, told.attempt, bytes(size))
                assert (await refused(sent))[1] == "bad_message"
            statement = Upload.decode(await liar.answer(told))
            other = replace(statement, digest=sha256(b"other"))
            assert (await refused(liar.say(told, other.encode())))[1] == "wrong_phase"
            await liar.say(told, statement.encode())
            await liar.say(told, statement.encode())  # the reply was lost
            second = replace(statement, signature=bytes(64))
            assert (await refused(liar.say(told, second.encode())))[1] == "second_statement"
            assert {await site.step() for site in honest} == {"Deal"}

    play(story())


def test_strangers_late_words_and_rubbish_change_nothing(path: Path, play: Play) -> None:
    async def story() -> None:
        async with serving(path) as federation:
            sites = await enrolled(federation)
            stranger = SecureSite(await federation.client("e"), [0.0, 0.0])
            await stranger.caller.hello()
            await upto(sites, "Roster")
            told = await sites[0].told()
            share = await sites[0].answer(told)
            for data in (share, b"", b"rubbish", bytes(200), share[:-1]):
                status, code, _ = await refused(stranger.say(told, data))
                assert code in {"wrong_identity", "bad_message"}, status
            late = types.Attempt(run=told.attempt.run, round=1, attempt=2)
            told.attempt.CopyFrom(late)
            assert (await refused(sites[0].say(told, share)))[1] == "wrong_phase"

    play(story())
