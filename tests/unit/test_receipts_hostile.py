"""A coordinator that gives wrong receipts, over gRPC: the real client names and audits them, and goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hostile_scheme import ALL
from hostile_world import Hostile, tell, template

from unisono.audit import tree_of
from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.client.runtime.notices import ReceiptRefused
from unisono.client.runtime.receipts import sent_by
from unisono.client.runtime.verifying import Verifier
from unisono.wire.v1 import round_pb2 as pb

if TYPE_CHECKING:
    from unisono.client.runtime.ledger import Line
    from unisono.server.runtime.receipts import Signed
    from unisono.server.store import Sheet

__all__ = ["tell", "template"]
Forge = Callable[[pb.Receipt], None]
Sign = Callable[["Sheet"], "Signed"]


def set_model(receipt: pb.Receipt) -> None:
    receipt.model_sha256 = bytes(32)


def set_count(receipt: pb.Receipt) -> None:
    receipt.count -= 1


def set_update(receipt: pb.Receipt) -> None:
    receipt.update_sha256 = bytes(32)


def set_path(receipt: pb.Receipt) -> None:
    receipt.path[0] = bytes(32)


def set_audit(receipt: pb.Receipt) -> None:
    receipt.audit_sha256 = bytes(32)


def cut(receipt: pb.Receipt) -> None:
    receipt.root = receipt.root[:31]


def set_wall(receipt: pb.Receipt) -> None:
    receipt.wall = float("nan")


def deny(receipt: pb.Receipt) -> None:
    run, round_ = receipt.run, receipt.round
    receipt.Clear()
    receipt.run, receipt.round, receipt.reason = run, round_, "it came\n too late"


SIGNATURE = 'the signature under the statement "receipt" does not match'
OTHERS = "other survivors than those that this site signed for"
FORGERIES = [
    (set_model, SIGNATURE),
    (set_count, SIGNATURE),
    (set_audit, SIGNATURE),
    (set_update, "is not among the 5 that were signed for"),
    (set_path, "is not among the 5 that were signed for"),
    (cut, "where a SHA-256 must be"),
    (set_wall, "where a time must be"),
    (deny, "it says that the update counts, and: it came too late"),
]


def lines(world: Hostile, kind: str) -> list[Line]:
    return [line for line in world.victim.audit() if line.kind == kind]


async def lived(world: Hostile, hook: Callable[[pb.Instruction], None] | None = None) -> None:
    """Let all sites play a run, and `hook` change what the victim is told."""
    world.scheme.hook = hook
    await world.begin()
    world.live()


async def refused(world: Hostile, words: str) -> None:
    """See that a receipt was refused, for this reason."""
    await world.until(lambda: lines(world, "receipt_refused"))
    assert words in str(lines(world, "receipt_refused")[0].detail["reason"])


async def one_forged(world: Hostile, forge: Forge) -> None:
    """Forge the receipt for round 1; go on until round 2 has its own."""

    def hook(found: pb.Instruction) -> None:
        for receipt in found.receipts:
            if receipt.round == 1:
                forge(receipt)

    await lived(world, hook)
    await world.published(1)
    await world.published(2)
    await world.until(lambda: any(line.detail["round"] == 2 for line in lines(world, "receipt")))


@pytest.mark.parametrize(("forge", "words"), FORGERIES, ids=lambda v: getattr(v, "__name__", ""))
def test_a_forged_receipt_is_named_and_audited(tell: Callable[..., None], forge: Forge, words: str) -> None:
    async def story(world: Hostile) -> None:
        await one_forged(world, forge)
        (line,) = lines(world, "receipt_refused")
        assert line.detail["round"] == 1
        assert words in str(line.detail["reason"])
        told = [notice for notice in world.victim.seen if isinstance(notice, ReceiptRefused)]
        assert [(n.run, n.round) for n in told] == [("r-0001", 1)]
        assert words in told[0].reason
        assert world.last[1] == ALL, "it is told, and work goes on"
        assert not world.scheme.codes()
        states = {sent.round: sent.state for sent in sent_by(world.victim.folder)}
        assert (states[1], states[2]) == ("refused", "held")
        checks(world)

    tell(story)


def checks(world: Hostile) -> None:
    """See that the offline check says the same."""
    verifier = Verifier.of(world.victim.folder)
    first, second = (next(s for s in sent_by(world.victim.folder) if s.round == n) for n in (1, 2))
    verifier.check(second)
    with pytest.raises(BadMessage, match="refused when it came"):
        verifier.check(first)


def test_a_receipt_that_is_lost_comes_again(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        lost: list[int] = []

        def hook(found: pb.Instruction) -> None:
            """Lose the first two answers that bring one."""
            if found.receipts and len(lost) < 2:
                lost.append(found.receipts[0].round)
                del found.receipts[:]

        await lived(world, hook)
        await world.until(lambda: len(lines(world, "receipt")) >= 2)
        assert lost[0] == 1
        assert 1 in [line.detail["round"] for line in lines(world, "receipt")]
        assert not lines(world, "receipt_refused")

    tell(story)


def lying(world: Hostile, lie: Callable[[Sheet, Sign], Signed]) -> None:
    """Let the coordinator sign, with its own key, something else for round 1."""
    receipts = world.federation.hall.receipts
    true = receipts._sign
    receipts._sign = lambda sheet: lie(sheet, true) if sheet.round == 1 else true(sheet)  # type: ignore[method-assign]


def test_other_survivors_than_those_signed_for_are_not_taken(tell: Callable[..., None]) -> None:
    """The coordinator signs, with its own key, a statement about a set that nobody agreed to."""

    def lie(sheet: Sheet, sign: Sign) -> Signed:
        fewer = tuple(pair for pair in sheet.updates if pair[0] != "a")
        return sign(replace(sheet, updates=fewer, root=Digest(tree_of(fewer).root.hex())))

    async def story(world: Hostile) -> None:
        lying(world, lie)
        await lived(world)
        await refused(world, OTHERS)

    tell(story)


def test_another_number_of_survivors_than_was_signed_for_is_not_taken(tell: Callable[..., None]) -> None:
    """The root is that of the set agreed to, and the path fits it under another count as well."""

    def hook(found: pb.Instruction) -> None:
        """The last of five leaves stands as high as the second of two."""
        for receipt in found.receipts:
            if receipt.round == 1:
                assert (receipt.index, len(receipt.path)) == (4, 1)
                receipt.index = 1

    async def story(world: Hostile) -> None:
        key = world.federation.hall.receipts._key

        def lie(sheet: Sheet, sign: Sign) -> Signed:
            signed = sign(sheet)
            two = replace(signed.published, count=2)
            return replace(signed, published=two, signature=two.statement().sign(key).hex())

        lying(world, lie)
        await lived(world, hook)
        await refused(world, OTHERS)

    tell(story)


def test_a_receipt_for_another_model_than_the_next_round_starts_from(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        lying(world, lambda sheet, sign: sign(replace(sheet, model=Digest("ab" * 32))))
        await lived(world)
        await refused(world, "the next round starts from")

    tell(story)


def test_what_was_not_asked_for_changes_nothing(tell: Callable[..., None]) -> None:
    def hook(found: pb.Instruction) -> None:
        found.receipts.extend(
            pb.Receipt(run="r-0099", round=n, reason="a line for your log") for n in range(500)
        )

    async def story(world: Hostile) -> None:
        await lived(world, hook)
        await world.published(1)
        assert not lines(world, "not_counted")

    tell(story)


async def nobody_is_asked(world: Hostile, words: str) -> None:
    """Start the client under a certificate that holds for no receipt."""
    await world.begin()
    await world.victim.again()
    world.live()
    await world.published(1)
    await refused(world, words)
    assert [sent.state for sent in sent_by(world.victim.folder)] == ["due"]


def test_a_key_that_the_ca_did_not_certify_for_it_is_not_taken(tell: Callable[..., None]) -> None:
    """The coordinator shows its certificate for sealing in place of the one for receipts."""

    async def story(world: Hostile) -> None:
        hall = world.federation.hall
        hall.receipts.certificate = hall.sealing_certificate
        await nobody_is_asked(world, "stands where a receipts certificate must be")

    tell(story)


@pytest.mark.parametrize("around", [b"\xff\xfe", b" " * (1 << 20)], ids=["no text", "large"])
def test_what_stands_around_a_certificate_ends_no_client(tell: Callable[..., None], around: bytes) -> None:
    """PEM may have anything before it; the client keeps the certificate as text."""

    async def story(world: Hostile) -> None:
        hall = world.federation.hall
        hall.receipts.certificate = around + b"\n" + hall.receipts.certificate
        await nobody_is_asked(world, "is no PEM")

    tell(story)
