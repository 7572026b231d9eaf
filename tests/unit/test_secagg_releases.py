"""Release and retry: no two sums of one round that differ by few clients, whatever the coordinator shows."""

from dataclasses import replace

import pytest
from secagg_world import MODEL, World, attempt_of, identity, name_of, names

from unisono.base.ids import RunId
from unisono.crypto import sha256, sha256_hex
from unisono.secagg import client as c
from unisono.secagg import server as s
from unisono.secagg.client.refusals import AlreadyReleased, BadCertificate
from unisono.secagg.shared import statements
from unisono.secagg.shared.certificates import AbandonCertificate, AgreeCertificate
from unisono.secagg.shared.messages import Abandon, Closing

WHO = names(5)
NEXT = attempt_of(WHO, 2)


def uploaded(n: int = 5) -> World:
    """All uploaded; U2 is not frozen."""
    world, who = World(n), names(n)
    world.advertise(who)
    world.coordinator.freeze_roster()
    world.exchange(who)
    world.coordinator.step(world.coordinator.stage.freeze_shares())
    world.exchange(who)
    return world


WORLD = uploaded()
STATE = c.decode_state(WORLD.sites[WHO[0]].disk)
assert isinstance(STATE, c.Uploaded)
RELEASE = STATE.release
CTX = RELEASE.ctx
DIGESTS = {n: u.digest for n, u in WORLD.coordinator.stage.book.uploads}


def abandon_certificate(*numbers: int, ctx: bytes = CTX) -> AbandonCertificate:
    statement = statements.abandon(ctx)
    return AbandonCertificate(ctx, tuple((n, statement.sign(identity(name_of(n)))) for n in numbers))


def agree_certificate(members: tuple[int, ...], *by: int) -> AgreeCertificate:
    u2 = tuple((n, DIGESTS[n]) for n in members)
    statement = statements.agree(CTX, RELEASE.u1, u2)
    signatures = tuple((n, statement.sign(identity(name_of(n)))) for n in by)
    return AgreeCertificate(CTX, RELEASE.u1, u2, signatures)


def judged(*certificates: c.Certificate, limit: int = 1) -> c.Bound | None:
    return c.check_releases([RELEASE], {x.ctx: x for x in certificates}, NEXT, MODEL, limit)


def test_a_retry_without_a_certificate_is_refused() -> None:
    """And says what would close it: n + c - t + 1 = 3 signatures of 5."""
    with pytest.raises(AlreadyReleased, match="the signatures of 3 clients that abandon it"):
        judged()


def test_an_abandon_certificate_closes() -> None:
    assert judged(abandon_certificate(2, 3, 4)) is None
    assert judged(abandon_certificate(1, 3, 5)) is None


def test_an_abandon_certificate_one_signature_short() -> None:
    for short in (
        abandon_certificate(2, 3),
        abandon_certificate(2, 3, 3),
        abandon_certificate(2, 3, 9),
        abandon_certificate(2, 3, 4, ctx=sha256(b"another")),
        replace(abandon_certificate(2, 3, 4), ctx=sha256(b"another")),
        AbandonCertificate(CTX, ((2, bytes(64)), *abandon_certificate(3, 4).signatures)),
    ):
        with pytest.raises((BadCertificate, AlreadyReleased)):
            c.check_releases([RELEASE], {CTX: short}, NEXT, MODEL)


def test_an_agree_certificate_without_this_client_closes() -> None:
    assert judged(agree_certificate((2, 3, 4), 2, 3, 4)) is None
    with pytest.raises(BadCertificate):
        judged(agree_certificate((2, 3, 4), 2, 3))
    with pytest.raises(BadCertificate):
        judged(agree_certificate((2, 3, 4), 2, 3, 5))  # not of U2


def test_an_agree_certificate_with_this_client_binds() -> None:
    bound = judged(agree_certificate((1, 2, 3, 4), 2, 3, 4))
    assert bound is not None
    assert bound.u2 == WHO[:4]
    assert (bound.model, bound.vector) == (MODEL, RELEASE.vector)


def test_other_rounds_models_and_runs() -> None:
    later = attempt_of(WHO, 1, round_=2)
    other_model = sha256_hex(b"next model")
    assert c.check_releases([RELEASE], {}, later, other_model) is None
    with pytest.raises(AlreadyReleased):  # the round left the model as it was
        c.check_releases([RELEASE], {}, later, MODEL)
    with pytest.raises(AlreadyReleased):  # the same round from a crafted model
        c.check_releases([RELEASE], {}, NEXT, other_model)
    elsewhere = replace(NEXT, run=RunId("r-0002"))
    assert c.check_releases([RELEASE], {}, elsewhere, MODEL) is None


def test_a_site_may_allow_another_release() -> None:
    assert judged(limit=2) is None
    again = replace(RELEASE, ctx=sha256(b"second"))
    with pytest.raises(AlreadyReleased):
        c.check_releases([RELEASE, again], {}, NEXT, MODEL, 2)


def test_a_repeat_is_no_release_of_its_own_and_needs_no_certificate_of_its_own() -> None:
    certificate = agree_certificate((1, 2, 3, 4), 2, 3, 4)
    bound = judged(certificate)
    repeat = replace(RELEASE, ctx=sha256(b"second"), only=bound)
    assert c.check_releases([RELEASE, repeat], {CTX: certificate}, NEXT, MODEL) == bound
    with pytest.raises(AlreadyReleased):  # the first is open and bound to nothing that was shown
        c.check_releases([RELEASE, repeat], {}, NEXT, MODEL)


def test_a_repeat_stays_open_when_what_it_repeats_is_closed() -> None:
    """Attempt 1 is certified, attempt 2 repeats it; then attempt 1 is abandoned, and attempt 2 opened.

    A site that counted the first only would be free for a third sum, with one client fewer.
    """
    bound = judged(agree_certificate((1, 2, 3, 4), 2, 3, 4))
    repeat = replace(RELEASE, ctx=sha256(b"second"), only=bound)
    closed = abandon_certificate(2, 3, 4)
    third = attempt_of(WHO, 3)
    assert c.check_releases([RELEASE, repeat], {CTX: closed}, third, MODEL) == bound
    both = {CTX: closed, repeat.ctx: abandon_certificate(2, 3, 4, ctx=repeat.ctx)}
    assert c.check_releases([RELEASE, repeat], both, third, MODEL) is None
    assert c.check_releases([RELEASE, repeat], {CTX: closed}, third, MODEL, 2) is None  # two are allowed


def test_a_repeat_needs_everybody_it_repeats() -> None:
    """Else strangers, bound to nothing, could be a quorum for another set with this client's vector in it."""
    certificate = agree_certificate((1, 2, 3, 4), 2, 3, 4)
    bound = judged(certificate)
    assert bound is not None
    strangers = (*WHO[:3], *names(7)[5:])  # of site 4's set only 1, 2 and 3 are there
    world = World(5, attempt=2, who=strangers, bounds=dict.fromkeys(WHO[:3], bound))
    world.advertise(strangers)
    world.coordinator.freeze_roster()
    message = world.coordinator.stage.message_for(WHO[0])
    assert message is not None
    with pytest.raises(AlreadyReleased, match="site-004"):
        world.sites[WHO[0]].receive(message)


def test_an_open_attempt_is_repeated_with_the_same_survivors() -> None:
    """U2 certified, then three of four fall silent: attempt 2 opens the same sum, and only that."""
    first, who = World(5), WHO
    first.advertise(who)
    first.coordinator.freeze_roster()
    for leg, freeze in ((who, "freeze_shares"), (who[:4], "freeze_survivors"), (who[:4], "certify")):
        first.exchange(leg)
        first.coordinator.step(getattr(first.coordinator.stage, freeze)())
    outcome = s.Outcome.of(first.coordinator.stage)
    certificate = outcome.certificate
    assert isinstance(certificate, AgreeCertificate)
    only = s.check_retry([outcome], who)
    assert only == who[:4]
    bounds, vectors = {}, {}
    for name in who[:4]:
        release = c.release_of(first.sites[name].state)
        assert release is not None
        bound = c.check_releases([release], {release.ctx: certificate}, NEXT, MODEL)
        assert bound is not None
        bounds[name], vectors[name] = bound, first.sites[name].vector
    second = World(5, attempt=2, only=only, bounds=bounds, vectors=vectors)
    total = second.play(None, None, None, who[:4], who[:4])
    assert total.tolist() == [1, 1, 1, 1, 0]  # site 5 uploaded this time, and is left out of the sum
    keys = [{m.key for m in state_of(w).masks} for w in (uploaded(), World2)]
    assert not keys[0] & keys[1]


World2 = World(5, attempt=2)
World2.advertise(WHO)
World2.coordinator.freeze_roster()
World2.exchange(WHO)
World2.coordinator.step(World2.coordinator.stage.freeze_shares())
World2.exchange(WHO)


def state_of(world: World) -> c.Uploaded:
    state = c.decode_state(world.sites[WHO[0]].disk)
    assert isinstance(state, c.Uploaded)
    return state


def test_the_coordinator_does_not_invite_who_would_refuse() -> None:
    stage = WORLD.coordinator.stage
    outcome = s.Outcome.of(stage)
    assert outcome.uploaded == WHO
    with pytest.raises(s.faults.AttemptOpen, match="attempt 1 may still be opened for site-001, site-002"):
        s.check_retry([outcome], WHO)
    assert s.check_retry([outcome], ()) == ()
    assert s.check_retry([s.Outcome.of(s.begin(stage.book.setup))], WHO) == ()
    closing = stage.close().after(lambda record: None)
    for name in WHO[:3]:
        site = WORLD.sites[name]
        _, data = c.decode_state(site.disk).abandon(Closing(MODEL), site.key).after(lambda saved: None)
        closing = closing.abandon(name, message(data)).after(lambda record: None)
    closed = s.Outcome.of(closing)
    assert isinstance(closed.certificate, AbandonCertificate)
    assert s.check_retry([closed], WHO) == ()
    assert judged(closed.certificate) is None


def message(data: bytes | None) -> Abandon:
    assert data is not None
    return Abandon.decode(data)


def test_the_same_survivors_have_to_be_there() -> None:
    outcome = s.Outcome.of(WORLD.coordinator.stage)
    agreed = replace(outcome, agreed=agree_certificate((1, 2, 3, 4), 1, 2, 3), survivors=WHO[:4])
    assert s.check_retry([agreed], WHO) == WHO[:4]
    assert s.check_retry([agreed], WHO[4:]) == ()  # who is not in the certified set is free
    with pytest.raises(s.faults.AttemptOpen, match="missing: site-002"):
        s.check_retry([agreed], (WHO[0], *WHO[2:]))


def test_a_repeat_waits_for_its_survivors() -> None:
    book = WORLD.coordinator.stage.book
    stage = s.Uploading(replace(book, setup=replace(book.setup, only=WHO[:4]), uploads=book.uploads[1:]))
    with pytest.raises(s.faults.TooFewSurvivors, match="waiting for site-001"):
        stage.freeze_survivors()
