"""Rows 1 to 4, 6, 13 and 14 of reference 1.4: what is checked before, and beside, the protocol."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from secagg_world import attempt_of, identity, names, pins_of

from unisono.base.ids import Digest
from unisono.crypto import sha256_hex
from unisono.identity import rotation
from unisono.secagg.client import checks
from unisono.secagg.client.refusals import Refusal
from unisono.secagg.shared import statements
from unisono.secagg.shared.roster import Pin, fingerprint

WHO = names(4)
CA = sha256_hex(b"ca")
PLAN = sha256_hex(b"plan")


def refused(code: str, act: Callable[[], object]) -> None:
    with pytest.raises(Refusal) as caught:
        act()
    assert caught.value.code == code


def test_row_1() -> None:
    checks.check_plan(PLAN, None, None)
    checks.check_plan(PLAN, {PLAN}, None)
    refused("plan_not_approved", lambda: checks.check_plan(PLAN, (), None))
    refused("outside_policy", lambda: checks.check_plan(PLAN, None, 'protection "sealed" is not allowed'))


def renewed(name: str, old: str, new: str, signed_by: str = "") -> checks.Rotation:
    before, after = identity(old), identity(new).public
    statement = rotation(CA, name, fingerprint(before.public), after)
    return checks.Rotation(names(1)[0], before.public, after, statement.sign(identity(signed_by or old)))


def test_row_2_a_manifest_may_shrink_and_never_grows() -> None:
    pins = pins_of(WHO)
    checks.check_manifest(pins, pins, (), CA)
    checks.check_manifest(pins, pins[1:], (), CA)
    refused("roster_not_pinned", lambda: checks.check_manifest(pins[1:], pins, (), CA))
    refused("roster_not_pinned", lambda: checks.check_manifest(pins, (pins[0], pins[0]), (), CA))


def test_row_2_a_renewed_key_is_signed_for_by_the_pinned_one() -> None:
    pins, first = pins_of(WHO), WHO[0]
    now = (Pin(first, fingerprint(identity("third").public)), *pins[1:])
    chain = (renewed(first, first, "second"), renewed(first, "second", "third"))
    checks.check_manifest(pins, now, chain, CA)
    checks.check_manifest(pins, now, chain[::-1], CA)
    for wrong in (
        (),
        chain[:1],
        chain[1:],
        (chain[0], renewed(first, "second", "third", signed_by="ca")),
        (replace(chain[0], name=WHO[1]), chain[1]),
        (renewed("somebody", first, "second"), chain[1]),
    ):
        refused("roster_not_pinned", lambda wrong=wrong: checks.check_manifest(pins, now, wrong, CA))  # type: ignore[misc]
    refused("roster_not_pinned", lambda: checks.check_manifest(pins, now, chain, sha256_hex(b"another ca")))


def test_row_3_a_copied_folder() -> None:
    here = {"machine": "m1", "inode": "7"}
    checks.check_place(here, dict(here))
    for there in ({"machine": "m2", "inode": "7"}, {"machine": "m1", "inode": "8"}, {"machine": "m1"}):
        refused("state_rolled_back", lambda there=there: checks.check_place(here, there))  # type: ignore[misc]


def test_row_3_an_own_statement_that_the_disk_does_not_know() -> None:
    key = identity(WHO[0])
    statement = statements.abandon(bytes(32))
    signature = statement.sign(key)
    checks.check_own_statement(statement, signature, key.public, {signature})
    checks.check_own_statement(statement, bytes(64), key.public, ())  # nobody said that
    refused("state_rolled_back", lambda: checks.check_own_statement(statement, signature, key.public, ()))


def test_row_4() -> None:
    checks.check_fresh(attempt_of(WHO, 1, 3), (2, 4), is_open=False)
    checks.check_fresh(attempt_of(WHO, 2, 3), (3, 1), is_open=False)
    checks.check_fresh(attempt_of(WHO, 2, 3), (3, 2), is_open=True)
    refused("round_replayed", lambda: checks.check_fresh(attempt_of(WHO, 9, 2), (3, 1), is_open=False))
    refused("attempt_replayed", lambda: checks.check_fresh(attempt_of(WHO, 2, 3), (3, 2), is_open=False))
    with pytest.raises(Refusal, match="has seen round 3, attempt 2"):  # an old coordinator can skip ahead
        checks.check_fresh(attempt_of(WHO, 1, 3), (3, 2), is_open=False)


def test_row_6() -> None:
    checks.check_budget(100.0, 1.0)
    checks.check_budget(3.0, 1.0, 4.0)
    refused("budget_spent", lambda: checks.check_budget(3.5, 1.0, 4.0))


def test_row_13_bounds() -> None:
    limits = 1e-6, 1e6
    checks.check_bounds([1.0, 2.0], [1.0, 1.0], 1, limits)
    checks.check_bounds([0.001], [1.0], 0, limits)
    checks.check_bounds([1e6], [1.0], 5000, limits)
    for proposed, last, rounds in (
        ([2.1], [1.0], 1),
        ([1.1], [1.0], 0),
        ([1.0, 1.0], [1.0], 1),
        ([1e-7], [1.0], 1),
        ([2e6], [1.5e6], 1),
        ([float("nan")], [1.0], 1),
    ):
        refused(
            "clip_out_of_rule",
            lambda p=proposed, q=last, r=rounds: checks.check_bounds(p, q, r, limits),  # type: ignore[misc]
        )


def test_row_14() -> None:
    model = sha256_hex(b"model")
    checks.check_model(model, model, None, finite=True)
    for received, difference, finite in (
        (Digest(PLAN), None, True),
        (model, 'tensor "fc.weight" has another shape', True),
        (model, None, False),
    ):
        refused(
            "bad_model",
            lambda r=received, d=difference, f=finite: checks.check_model(model, r, d, f),  # type: ignore[misc]
        )
