"""Rows 1 to 6, 13 and 14 of reference 1.4: what a client checks before, or beside, the protocol.

Functions of what the runtime knows and the coordinator shows; each returns if all is well and raises its
row's refusal otherwise.  They are called in the order of the rows (row 5 is `releases.check_releases`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from unisono.base.errors import BadCredentials
from unisono.base.ids import ClientName, Digest
from unisono.identity.statements import rotation
from unisono.secagg.shared.roster import Attempt, Pin, fingerprint
from unisono.secagg.shared.statements import Statement

from .refusals import (
    AttemptReplayed,
    BadModel,
    BudgetSpent,
    ClipOutOfRule,
    OutsidePolicy,
    PlanNotApproved,
    RosterNotPinned,
    RoundReplayed,
    StateRolledBack,
)


def check_plan(plan: Digest, approved: Collection[Digest] | None, outside: str | None) -> None:
    """Row 1.

    Args:
        plan: digest of the plan that the coordinator asks for.
        approved: the digests that somebody at this site approved; None if the policy asks for no approval.
        outside: why the site's policy does not allow it, in words (`policy.judge`); None if it does.

    """
    if outside is not None:
        raise OutsidePolicy(outside)
    if approved is not None and plan not in approved:
        raise PlanNotApproved(f"nobody at this site approved the plan {plan}")


@dataclass(frozen=True, slots=True)
class Rotation:
    """A site's change of its signing key, signed with the pinned one."""

    name: ClientName
    old: bytes  # the public key that signs; its fingerprint is the pin
    new: bytes
    signature: bytes


def check_manifest(
    pinned: Sequence[Pin], offered: Sequence[Pin], rotations: Collection[Rotation], ca: Digest
) -> None:
    """Row 2: the manifest may shrink; a changed key has to be handed over by the pinned one.

    A certificate alone is not enough: whoever holds the CA could take a site over.

    Args:
        pinned: what this site pinned when the run began.
        offered: what the coordinator shows now.
        rotations: what it shows with it.
        ca: fingerprint of the federation's CA, part of every rotation.

    """
    pins = {pin.name: pin.key for pin in pinned}
    if len({pin.name for pin in offered}) != len(offered):
        raise RosterNotPinned("the manifest names somebody twice")
    for pin in offered:
        if pin.name not in pins:
            raise RosterNotPinned(f'"{pin.name}" is in the manifest and was not when the run began', pin.name)
        if pin.key != pins[pin.name] and not _handed_over(pin, pins[pin.name], rotations, ca):
            raise RosterNotPinned(f'"{pin.name}" has another key, not signed for by its pinned one', pin.name)


def _handed_over(pin: Pin, pinned: Digest, rotations: Collection[Rotation], ca: Digest) -> bool:
    """Follow the statements from the pinned key to the present one; each leads on to a key not met before."""
    known = {pinned}
    mine = [change for change in rotations if change.name == pin.name]
    while pin.key not in known:
        found = {
            fingerprint(change.new)
            for change in mine
            if fingerprint(change.old) in known and _signed(change, ca)
        }
        if found <= known:
            return False
        known |= found
    return True


def _signed(change: Rotation, ca: Digest) -> bool:
    try:
        rotation(ca, change.name, fingerprint(change.old), change.new).check(change.old, change.signature)
    except BadCredentials:
        return False
    return True


def check_place(written: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Row 3: open attempts belong to this machine and folder; a copy or a backup of them does not.

    Args:
        written: what the file of open attempts says of where it belongs (machine id, inode).
        found: the same, as it is now.

    """
    if differing := [key for key in written.keys() | found.keys() if written.get(key) != found.get(key)]:
        raise StateRolledBack(
            f"the file of open attempts is a copy: another {' and '.join(sorted(differing))} than when "
            "it was written; its attempts are left and count as released"
        )


def check_own_statement(
    statement: Statement, signature: bytes, identity: bytes, known: Collection[bytes]
) -> None:
    """Row 3: the coordinator shows something that this client said and its disk does not know.

    Signatures are deterministic, so an own statement is known by its signature; one that does not hold is
    nothing that this client said.
    """
    if statement.signed(identity, signature) and signature not in known:
        raise StateRolledBack(
            f'the coordinator shows a "{statement.label}" of this client that its disk does not know: the '
            "state was restored from a backup; open attempts are left and count as released"
        )


def check_fresh(attempt: Attempt, highest: tuple[int, int], is_open: bool) -> None:
    """Row 4: the pair only grows; the refusal names ours, so that an old coordinator can skip ahead.

    Args:
        attempt: what the coordinator invites to.
        highest: the highest (round, attempt) of the run that this client has taken part in; (0, 0) for none.
        is_open: whether this very attempt (same ctx0) is the open one, which may be invited to again.

    """
    invited = attempt.round, attempt.attempt
    if is_open or invited > highest:
        return
    seen = f"this client has seen round {highest[0]}, attempt {highest[1]}"
    if attempt.round < highest[0]:
        raise RoundReplayed(f"round {attempt.round} again: {seen}")
    raise AttemptReplayed(f"attempt {attempt.attempt} of round {attempt.round} again: {seen}")


def check_budget(spent: float, cost: float, limit: float = inf) -> None:
    """Row 6: epsilon as the ledger accounts it, over all runs of this data set."""
    if spent + cost > limit:
        raise BudgetSpent(
            f"one more release costs {cost:g} of privacy; {spent:g} of {limit:g} are spent at this site"
        )


def check_bounds(
    proposed: Sequence[float], last: Sequence[float], rounds: int, limits: tuple[float, float]
) -> None:
    """Row 13: a bound may shrink freely, grow by 2 a round, and stays inside the plan.

    Args:
        proposed: bounds of all parts for this round.
        last: those that this client knew last (in round 1: by the rule, from the model).
        rounds: rounds since then; 0 for the same ones.
        limits: smallest and largest that the plan allows.

    """
    smallest, largest = limits
    if len(proposed) != len(last):
        raise ClipOutOfRule(f"{len(proposed)} bounds for {len(last)} parts")
    for new, old in zip(proposed, last, strict=True):
        if not smallest <= new <= largest:
            raise ClipOutOfRule(f"the bound {new:g} is outside the plan's {smallest:g} to {largest:g}")
        if new > old * 2.0 ** min(rounds, 1000):
            raise ClipOutOfRule(f"the bound {new:g} cannot be reached from {old:g} in {rounds} rounds")


def check_model(announced: Digest, received: Digest, difference: str | None, finite: bool) -> None:
    """Row 14.

    Args:
        announced: digest of the model that the attempt starts from.
        received: digest of the bytes that came.
        difference: from the run's tensors, in words (`Manifest.difference`); None if there is none.
        finite: whether all values are.

    """
    if received != announced:
        raise BadModel(f"the model has the digest {received}, not {announced} as announced")
    if difference is not None:
        raise BadModel(f"the model does not fit the run: {difference}")
    if not finite:
        raise BadModel("the model holds values that are not finite")
