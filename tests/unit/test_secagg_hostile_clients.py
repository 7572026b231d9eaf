"""Clients that lie, one case at least for each row of reference 1.5: each is named, and the others go on."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from secagg_world import MODEL, World, entropy_of, identity, journey, name_of, names, spec_of

from unisono.base.errors import Error, Fault, PeerFault, Refused, WrongPhase
from unisono.base.ids import ClientName
from unisono.crypto import sha256, sha256_hex
from unisono.crypto.keys import KEM_PUBLIC
from unisono.crypto.shamir import combine
from unisono.secagg import server as s
from unisono.secagg.shared import statements
from unisono.secagg.shared.keys import Vault
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Complaint, Opened, Share, Upload
from unisono.secagg.shared.roster import Entry

TRIP = journey()
WHO = names(5)
BAD = WHO[1]  # the hostile one
FULL = TRIP.stages[s.Revealing]


def refused(code: str, act: Callable[[], object], client: ClientName | None = None) -> None:
    with pytest.raises(Error) as caught:
        act()
    assert caught.value.code == code
    assert getattr(caught.value, "client", None) == client
    assert isinstance(caught.value, PeerFault if client else Refused)


R = TypeVar("R")


def others(rows: tuple[tuple[int, R], ...]) -> tuple[tuple[int, R], ...]:
    return tuple(row for row in rows if row[0] != 2)


def without(kind: type[s.Stage]) -> s.Stage:
    """A stage before the hostile one's message came, from its bytes."""
    book = TRIP.stages[kind].book
    if kind is s.Advertising:
        book = replace(book, entries=tuple(e for e in book.entries if e.name != BAD))
    elif kind is s.Sharing:
        book = replace(book, shares=others(book.shares))
    elif kind is s.Uploading:
        book = replace(book, uploads=others(book.uploads))
    elif kind is s.Agreeing:
        book = replace(book, agreements=others(book.agreements))
    else:
        book = replace(book, answers=others(book.answers))
    return kind(book)


# every call


def test_wrong_identity() -> None:
    stage, entry = without(s.Advertising), TRIP.said(Entry, BAD)
    stranger = ClientName("stranger")
    refused("wrong_identity", lambda: stage.advertise(stranger, entry), stranger)
    named_otherwise = replace(entry, name=ClientName("somebody"))
    refused("wrong_identity", lambda: stage.advertise(BAD, named_otherwise), BAD)
    other_key = replace(entry, identity=identity("other").public)
    refused("wrong_identity", lambda: stage.advertise(BAD, other_key), BAD)
    for verb in (FULL.share, FULL.agree, FULL.reveal, FULL.abandon, FULL.complain):
        refused("wrong_identity", lambda verb=verb: verb(stranger, None), stranger)  # type: ignore[misc]


def test_somebody_elses_messages_are_not_taken() -> None:
    """Relayed under the hostile one's own TLS identity."""
    theirs = WHO[2]
    refused("bad_signature", lambda: without(s.Sharing).share(BAD, TRIP.said(Share, theirs)), BAD)
    upload = TRIP.said(Upload, theirs)
    stage = without(s.Uploading)
    refused("bad_signature", lambda: stage.upload(BAD, upload, upload.length, upload.digest), BAD)
    refused("bad_signature", lambda: without(s.Agreeing).agree(BAD, TRIP.said(Agree, theirs)), BAD)


def test_late_messages_are_of_the_wrong_phase() -> None:
    book = TRIP.stages[s.Uploading].book
    late = s.Uploading(replace(book, u1=(1, 3, 4, 5), shares=tuple(r for r in book.shares if r[0] != 2)))
    refused("wrong_phase", lambda: late.share(BAD, TRIP.said(Share, BAD)))
    upload = TRIP.said(Upload, BAD)
    without_it = replace(late, book=replace(late.book, uploads=()))
    refused("wrong_phase", lambda: without_it.upload(BAD, upload, upload.length, upload.digest))
    refused("wrong_phase", lambda: FULL.agree(WHO[4], Agree(bytes(64))))  # no survivor
    refused("wrong_phase", lambda: FULL.reveal(WHO[4], TRIP.said(Answer, BAD)))


# leg 0


def test_keys_that_are_copied_or_malformed() -> None:
    stage, entry = without(s.Advertising), TRIP.said(Entry, BAD)
    refused("bad_signature", lambda: stage.advertise(BAD, replace(entry, signature=bytes(64))), BAD)
    elsewhere = replace(entry, ctx0=sha256(b"another attempt"))
    refused("bad_signature", lambda: stage.advertise(BAD, signed(elsewhere)), BAD)
    for copied in (replace(entry, c=TRIP.said(Entry, WHO[0]).c), replace(entry, c=entry.s)):
        refused("duplicate_key", lambda copied=copied: stage.advertise(BAD, signed(copied)), BAD)  # type: ignore[misc]
    for weak in (replace(entry, s=bytes(32)), replace(entry, ec=b"\xff" * KEM_PUBLIC)):
        refused("weak_key", lambda weak=weak: stage.advertise(BAD, signed(weak)), BAD)  # type: ignore[misc]
    stage.advertise(BAD, entry)


def signed(entry: Entry) -> Entry:
    statement = statements.advertise(entry.ctx0, entry.name, entry.keys)
    return replace(entry, signature=statement.sign(identity(BAD)))


def test_cohort_too_small() -> None:
    empty = s.Advertising(replace(TRIP.stages[s.Advertising].book, entries=()))
    refused("cohort_too_small", lambda: empty.freeze_roster(spec_of(3), MODEL))
    stage = TRIP.stages[s.Advertising]  # four are there
    refused("cohort_too_small", lambda: stage.freeze_roster(spec_of(4, 3), MODEL))  # c > n - 2
    refused("cohort_too_small", lambda: stage.freeze_roster(spec_of(4, 0, 5), MODEL))  # n < m
    with pytest.raises(Fault, match="a spec for 5 clients"):
        stage.freeze_roster(spec_of(5), MODEL)
    sharing = TRIP.stages[s.Sharing]
    few = s.Sharing(replace(sharing.book, shares=sharing.book.shares[:2]))
    refused("cohort_too_small", few.freeze_shares)


# leg 1


def test_incomplete_shares() -> None:
    stage, share = without(s.Sharing), TRIP.said(Share, BAD)
    missing = replace(share, parcels=share.parcels[1:])
    refused("incomplete_shares", lambda: stage.share(BAD, missing), BAD)
    longer = replace(share, vault=share.vault + b"\0")
    refused("incomplete_shares", lambda: stage.share(BAD, longer), BAD)
    refused("bad_signature", lambda: stage.share(BAD, replace(share, signature=bytes(64))), BAD)


def test_other_context_says_what_differs() -> None:
    stage, share = without(s.Sharing), TRIP.said(Share, BAD)
    for what, other in (
        ("model", replace(share, model=sha256_hex(b"x"))),
        ("spec", replace(share, spec=bytes(32))),
        ("roster", replace(share, root=bytes(32))),
    ):
        with pytest.raises(s.faults.OtherContext, match=f"another {what}$"):
            stage.share(BAD, other)


def complaints(*rows: tuple[int, int], colluding: int = 1) -> s.Stage:
    """All shared, nobody uploaded, and these complained."""
    trip = journey(5, colluding)
    stage: s.Stage = s.Uploading(replace(trip.stages[s.Uploading].book, uploads=()))
    for who, about in rows:
        stage = stage.complain(name_of(who), Complaint(about)).after(lambda record: None)
    return stage


def test_more_than_c_complaints_prove_a_fault_and_fewer_nothing() -> None:
    one = complaints((1, 2))
    assert one.book.left_out == ((WHO[0], "complained"),)
    assert one.book.apart == ((WHO[0], BAD),)
    two = complaints((1, 2), (3, 2))
    assert dict(two.book.left_out)[BAD] == "share_unreadable"
    refused("wrong_phase", lambda: two.upload(BAD, TRIP.said(Upload, BAD), 40, bytes(32)))
    assert two.waiting_for() == (WHO[3], WHO[4])
    refused("second_statement", lambda: two.complain(WHO[0], Complaint(3)), WHO[0])
    for about in (1, 9, 0):
        refused("wrong_phase", lambda about=about: complaints((1, about)))  # type: ignore[misc]


# leg 2


def test_uploads_that_are_not_what_was_signed() -> None:
    stage, said = without(s.Uploading), TRIP.said(Upload, BAD)
    refused("bad_length", lambda: stage.upload(BAD, said, 32, said.digest), BAD)
    refused("bad_length", lambda: stage.upload(BAD, replace(said, length=48), 48, said.digest), BAD)
    refused("bad_digest", lambda: stage.upload(BAD, said, said.length, sha256(b"stored")), BAD)
    unsigned = replace(said, signature=bytes(64))
    refused("bad_signature", lambda: stage.upload(BAD, unsigned, said.length, said.digest), BAD)
    other_u1 = statements.upload(stage.book.ctx, (1, 2, 3), said.length, said.digest).sign(identity(BAD))
    refused(
        "bad_signature",
        lambda: stage.upload(BAD, replace(said, signature=other_u1), said.length, said.digest),
        BAD,
    )


# leg 3


def test_useless_freezes_and_agreements() -> None:
    uploading = TRIP.stages[s.Uploading].book
    few = s.Uploading(replace(uploading, uploads=uploading.uploads[:2]))
    refused("too_few_survivors", few.freeze_survivors)
    agreeing = TRIP.stages[s.Agreeing].book
    refused("no_quorum", s.Agreeing(replace(agreeing, agreements=agreeing.agreements[:2])).certify)
    other_set = statements.agree(agreeing.ctx, agreeing.u1, agreeing.u2[:3]).sign(identity(BAD))
    refused("bad_signature", lambda: without(s.Agreeing).agree(BAD, Agree(other_set)), BAD)


# leg 4


def test_answers_of_the_wrong_kind() -> None:
    stage, answer = without(s.Revealing), TRIP.said(Answer, BAD)
    first = answer.selves[0]
    for wrong in (
        Answer(answer.selves, ()),
        Answer(answer.selves[1:], answer.vaults),
        Answer((*answer.selves, first), answer.vaults),
        Answer((*answer.selves, answer.vaults[0]), answer.vaults),  # both kinds for the dropped one
        Answer((Opened(first.number, b"\xff" * 33), *answer.selves[1:]), answer.vaults),  # y >= p
    ):
        refused("bad_shares", lambda wrong=wrong: stage.reveal(BAD, wrong), BAD)  # type: ignore[misc]


def revealing(answers: dict[int, Answer]) -> s.Revealing:
    assert isinstance(FULL, s.Revealing)
    return replace(FULL, book=replace(FULL.book, answers=tuple(sorted(answers.items()))))


def lying(answer: Answer, of: str = "selves") -> Answer:
    """Shares that are numbers of the field, and wrong."""
    rows = tuple(Opened(o.number, bytes(1) + sha256(o.share)) for o in getattr(answer, of))
    return Answer(rows, answer.vaults) if of == "selves" else Answer(answer.selves, rows)


@pytest.mark.parametrize("of", ["selves", "vaults"])
@pytest.mark.parametrize("liar", [1, 2, 4])
def test_a_false_answer_is_named_when_more_than_t_answered(of: str, liar: int) -> None:
    """t = 3 of 5, four answered: one liar is found, and the masks are the same."""
    answers = dict(FULL.book.answers)
    honest = s.open_masks(revealing(answers))
    assert honest.odd == ()
    answers[liar] = lying(answers[liar], of)
    opened = s.open_masks(revealing(answers))
    assert opened.streams == honest.streams
    if liar < 4:  # the fourth was not needed, so nobody looked at it
        assert opened.odd == (name_of(liar),)


def test_three_liars_among_many_answers_are_named() -> None:
    """13 of 24 are needed; leaving out one, two or three answers in turn would try 2300 sets."""
    world, liars = World(24), (6, 7, 8)
    total = world.play()
    book = world.coordinator.stage.book
    rows = tuple((n, lying(answer) if n in liars else answer) for n, answer in book.answers)
    opened = s.open_masks(s.Revealing(replace(book, answers=rows)))
    assert opened.odd == tuple(map(name_of, liars))
    assert total.tolist() == [1] * 24
    assert opened.streams == s.open_masks(s.Revealing(book)).streams


def test_a_false_answer_among_t_fails_closed() -> None:
    answers = {number: answer for number, answer in FULL.book.answers if number < 4}
    s.open_masks(revealing(answers))
    refused("bad_shares", lambda: s.open_masks(revealing({**answers, 2: lying(answers[2])})), WHO[0])
    bad_vault = {**answers, 2: lying(answers[2], "vaults")}
    refused("bad_vault", lambda: s.open_masks(revealing(bad_vault)), WHO[4])


def test_too_few_answers_open_nothing() -> None:
    answers = dict(FULL.book.answers)
    refused("too_few_shares", lambda: s.open_masks(revealing({1: answers[1], 2: answers[2]})))


def test_a_commitment_to_another_secret() -> None:
    rows = {n: replace(m, commitment=bytes(32)) if n == 2 else m for n, m in FULL.book.shares}
    stage = s.Revealing(replace(FULL.book, shares=tuple(rows.items())))
    refused("bad_shares", lambda: s.open_masks(stage), BAD)


def test_vaults_that_do_not_open_or_hold_other_keys() -> None:
    def with_vault(vault: bytes) -> s.Revealing:
        rows = {n: replace(m, vault=vault) if n == 5 else m for n, m in FULL.book.shares}
        return s.Revealing(replace(FULL.book, shares=tuple(rows.items())))

    refused("bad_vault", lambda: s.open_masks(with_vault(bytes(Vault.length(5)))), WHO[4])
    holders = dict(FULL.book.answers)
    shares = {n: next(o.share for o in a.vaults if o.number == 5) for n, a in holders.items()}
    secret = combine(shares, 3)
    entropy = entropy_of("others")
    wrong = Vault(entropy(32), entropy(64), tuple(entropy(32) for _ in range(4)))
    refused("bad_vault", lambda: s.open_masks(with_vault(wrong.seal(secret, FULL.book.ctx, 5))), WHO[4])


# sum, retry


def test_wrong_masks_are_seen_in_the_sum() -> None:
    """A hostile client adds what is no mask: the word "1" and the lanes show it, nothing is published."""
    world = World(4)
    hostile = world.sites[WHO[0]]
    hostile.vector = hostile.vector + np.uint64(12345)
    total = world.play()
    assert set(total.tolist()) != {0, 1}
    s.check_sum(4.0, 0.5, 4)
    for one, weight in ((12349.0, 1.0), (4.0, 0.0), (4.0, -1.0), (3.0, 1.0)):
        refused("sum_mismatch", lambda one=one, weight=weight: s.check_sum(one, weight, 4))  # type: ignore[misc]


def test_one_bad_client_before_u1_costs_nothing() -> None:
    """It sends a bad share message, is left out, and the others finish; so is one whose upload is bad."""
    who, world = names(5), World(5)
    world.advertise(who)
    coordinator = world.coordinator
    coordinator.freeze_roster()
    bad = Share.decode(world.sites[who[0]].receive(coordinator.stage.book.roster) or b"")
    with pytest.raises(s.faults.IncompleteShares):
        coordinator.receive(who[0], replace(bad, parcels=()))
    coordinator.step(coordinator.stage.leave_out(who[0], "incomplete_shares"))
    world.exchange(who[1:])
    coordinator.step(coordinator.stage.freeze_shares())
    world.exchange(who[1:4])
    coordinator.step(coordinator.stage.leave_out(who[4], "bad_length"))
    assert coordinator.stage.waiting_for() == ()
    coordinator.step(coordinator.stage.freeze_survivors())
    world.exchange(who[1:4])
    coordinator.step(coordinator.stage.certify())
    world.exchange(who[1:4])
    coordinator.restart()
    assert coordinator.sum().tolist() == [0, 1, 1, 1, 0]
    coordinator.step(coordinator.stage.leave_out(who[0], "again"))  # nothing new
    assert coordinator.stage.book.left_out == ((who[0], "incomplete_shares"), (who[4], "bad_length"))


def test_abandon_statements_are_checked() -> None:
    closing = FULL.close().after(lambda record: None)
    assert closing.waiting_for() == (WHO[4],)  # all others revealed
    good = statements.abandon(FULL.book.ctx).sign(identity(BAD))
    refused("wrong_phase", lambda: closing.abandon(BAD, Abandon(good)))
    other = statements.abandon(sha256(b"another context")).sign(identity(WHO[4]))
    refused("bad_signature", lambda: closing.abandon(WHO[4], Abandon(other)), WHO[4])


def test_left_out_clients_are_not_heard() -> None:
    stage = without(s.Sharing).leave_out(BAD, "lost").after(lambda record: None)
    with pytest.raises(WrongPhase, match="without this client"):
        stage.share(BAD, TRIP.said(Share, BAD))
    early = without(s.Advertising).leave_out(BAD, "lost").after(lambda record: None)
    with pytest.raises(WrongPhase, match="without this client"):
        early.advertise(BAD, TRIP.said(Entry, BAD))
    assert BAD not in early.waiting_for()
