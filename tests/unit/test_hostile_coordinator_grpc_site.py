"""A hostile coordinator against a real client over gRPC: what a site's policy and past refuse.

Rows 1, 2 and 5 of reference 1.4, as far as they need another policy, or an attempt that failed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hostile_scheme import ALL, HONEST, PLAN, POLICY, VICTIM, Lie, Scheme, crafted
from hostile_world import Hostile, refuses, tell, template

from unisono import strategies
from unisono.plan import Plan, canonical
from unisono.secagg.shared.certificates import AbandonCertificate
from unisono.secagg.shared.messages import Share, Survivor, Survivors, Upload
from unisono.secagg.shared.roster import Roster
from unisono.wire.v1 import round_pb2 as pb

if TYPE_CHECKING:
    from unisono.client.policy import Policy

__all__ = ["tell", "template"]
SEALED = Plan.model_validate(
    {**PLAN.model_dump(mode="json"), "protection": {"mode": "sealed", "max_colluding": 0}}
)
SMALL = PLAN.model_copy(update={"cohort": PLAN.cohort.model_copy(update={"size": 4})})


async def goes_on_without(world: Hostile, code: str) -> None:
    """See that nothing leaves the site in round 1, and that the next round has it again."""
    await world.begin()
    world.live()
    await refuses(world, code)
    await world.published(1, HONEST)
    assert not world.scheme.left(1)
    await world.published(2)


# row 1


def test_1_a_sealed_plan_outside_policy(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        def downgrade(found: pb.Instruction) -> None:
            if found.WhichOneof("what") == "consider":
                found.consider.plan = canonical(SEALED)

        world.scheme.hook = downgrade
        await world.begin()
        assert world.scheme.codes() == ["outside_policy"]
        (line,) = [line for line in world.victim.audit() if line.kind == "declined"]
        assert str(line.detail["reason"]).startswith("outside_policy: ")
        assert not world.scheme.left(0, 0)

    tell(story)


def test_1_sealed_work_in_a_run_under_secagg(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        def downgrade(found: pb.Instruction) -> None:
            if found.WhichOneof("what") == "secure" and found.secure.attempt.round == 1:
                asked = found.secure
                spec = strategies.spec_for((), {}, ("loss",), lanes=32, clients=5).encode()
                found.work.CopyFrom(
                    pb.Work(
                        attempt=asked.attempt,
                        kind=asked.kind,
                        plan_sha256=asked.plan_sha256,
                        model_sha256=asked.model_sha256,
                        model_bytes=asked.model_bytes,
                        spec=spec,
                        idle_seconds=20.0,
                    )
                )  # fmt: skip

        world.scheme.hook = downgrade
        await goes_on_without(world, "bad_spec")

    tell(story)


def test_1_a_plan_that_nobody_here_agreed_to(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        world.scheme.lie = Lie(lambda _, secure: crafted(secure, plan_sha256=bytes(32)), "invitation")
        await goes_on_without(world, "not_joined")

    tell(story)


def test_1_an_invitation_before_anybody_approved_the_plan(tell: Callable[..., None]) -> None:
    async def story(world: Hostile) -> None:
        world.plan = SMALL
        await world.begin()
        assert world.scheme.left(0, 0) == ["looking"]
        world.live()
        await world.until(lambda: world.scheme.other)
        world.scheme.forced = world.scheme.other
        await refuses(world, "not_joined")
        assert not [heard for heard in world.scheme.heard if heard.client == VICTIM and heard.message]

    tell(story, replace_policy(approve="ask"))


def replace_policy(**fields: object) -> Policy:
    return POLICY.model_copy(update=fields)


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"protections": ("sealed",)}, "outside_policy"),
        ({"min_cohort": 5}, "outside_policy"),
        ({"max_colluding": 2}, "outside_policy"),
        ({"tasks": ("another",)}, "outside_policy"),
        ({"max_epsilon": 1.0}, "outside_policy"),
        ({"plans": ("f" * 64,)}, "plan_not_approved"),
        ({"approve": "ask"}, "plan_not_approved"),
        ({"roster_digest": "f" * 64}, "roster_not_pinned"),
    ],
)
def test_1_2_a_policy_that_became_stricter(
    tell: Callable[..., None], policy: dict[str, object], code: str
) -> None:
    """The site agreed to the plan; then its policy was changed: it is asked again at every invitation."""

    async def story(world: Hostile) -> None:
        await world.begin()
        world.live()
        await world.published(1)
        await world.victim.again(replace_policy(**policy))
        await refuses(world, code)
        refused = next(heard for heard in world.scheme.heard if heard.code)
        assert not world.scheme.left(refused.round, refused.attempt)
        await world.victim.again(POLICY)
        await world.until(lambda: world.last[0] > refused.round and world.last[1] == ALL)

    tell(story)


# row 5


def gone(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    secure.ClearField("certificates")
    return secure


def certificate(change: Callable[[AbandonCertificate], AbandonCertificate]) -> Lie:
    def told(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
        (raw,) = secure.certificates
        return crafted(secure, certificates=[change(AbandonCertificate.decode(raw)).encode()])

    return Lie(told, "invitation", attempt=2)


@pytest.mark.parametrize(
    ("name", "lie", "code"),
    [
        ("a retry after upload without certificate", Lie(gone, "invitation", attempt=2), "already_released"),
        (
            "an abandon certificate one signature short",
            certificate(lambda found: replace(found, signatures=found.signatures[:2])),
            "bad_certificate",
        ),
        (
            "one signature three times",
            certificate(lambda found: replace(found, signatures=found.signatures[:1] * 3)),
            "bad_certificate",
        ),
        (
            "of another attempt",
            certificate(lambda found: replace(found, ctx=bytes(32))),
            "already_released",
        ),
        ("nothing but the truth", None, ""),
    ],
)
def test_5_an_attempt_after_one_that_failed(
    tell: Callable[..., None], name: str, lie: Lie | None, code: str
) -> None:
    async def story(world: Hostile) -> None:
        world.scheme.lie = lie
        await world.begin()
        world.live("a", "b")
        for leg in ("Invitation", "Roster"):
            assert [await site.step() for site in world.sites[2:]] == [leg, leg]
        await world.until(lambda: VICTIM in world.uploaded)
        for site in world.sites[2:]:
            await site.leave()
        await world.until(lambda: world.scheme.said(VICTIM, "abandon", 1))
        for site in world.sites[2:]:
            await site.caller.hello()
        world.live("c", "d")
        if code:
            await refuses(world, code)
        await world.until(lambda: VICTIM in world.last[1])
        assert world.scheme.left(1, 1) == ["advertise", "share", "bytes", "upload", "abandon"]
        assert bool(world.scheme.left(1, 2)) == (not code)
        assert world.scheme.codes() == ([code] if code else [])

    tell(story)


def one_more(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    """Show the survivors whose sum is open, and "d"."""
    upload = scheme.said("d", "upload", 1, 2)
    assert upload is not None
    found, more = Survivors.decode(secure.message), Upload.decode(upload)
    *first, last = found.members
    added = Survivor(4, more.digest, more.signature)
    return crafted(secure, message=Survivors((*first, added, last)).encode())


def one_less(scheme: Scheme, secure: pb.Secure) -> pb.Secure:
    roster = Roster.decode(secure.message)
    entries = tuple(entry for entry in roster.entries if entry.name != "c")
    terms = replace(roster.spec.terms, clients=4, threshold=3)
    return crafted(
        secure, message=replace(roster, entries=entries, spec=replace(roster.spec, terms=terms)).encode()
    )


@pytest.mark.parametrize(
    ("name", "lie", "code"),
    [
        ("without the certificate", Lie(gone, "invitation", attempt=2), "already_released"),
        ("with one client more", Lie(one_more, "survivors", attempt=2), "already_released"),
        ("with one client less", Lie(one_less, "roster", attempt=2), "spec_mismatch"),
        ("nothing but the truth", None, ""),
    ],
)
def test_5_a_certified_sum_is_opened_again_as_it_was(
    tell: Callable[..., None], name: str, lie: Lie | None, code: str
) -> None:
    """Attempt 1 was certified without "d", whose vault did not open; attempt 2 may be that sum alone."""

    async def story(world: Hostile) -> None:
        world.scheme.lie = lie
        await world.begin()
        world.live("a", "b", "c")
        d = world.sites[3]
        assert await d.step() == "Invitation"
        told = await d.told()
        share = Share.decode(await d.answer(told))
        await d.say(told, replace(share, vault=bytes(len(share.vault))).encode())
        await world.until(lambda: VICTIM in world.uploaded)
        await d.leave()
        await world.until(lambda: world.attempt == 2)
        await d.caller.hello()
        world.live("d")
        if code:
            await refuses(world, code)
            assert "agree" not in world.scheme.left(1, 2)
        else:
            await world.published(1, ("a", "b", "c", VICTIM))
        assert world.scheme.left(1, 1)[-1] == "answer"
        assert world.scheme.codes() == ([code] if code else [])

    tell(story)
