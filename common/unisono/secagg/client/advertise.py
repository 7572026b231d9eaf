"""Leg 0: make keys and show them; then hold everybody's to what this site pinned and computed itself."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from unisono.base.errors import BadMessage
from unisono.crypto.entropy import Entropy
from unisono.crypto.keys import KemKey, SealingKey, SigningKey
from unisono.secagg.shared import terms
from unisono.secagg.shared.roster import SIGNATURE, Entry, Roster, fingerprint
from unisono.secagg.shared.spec import Spec
from unisono.secagg.shared.statements import advertise

from .holding import Keys
from .refusals import (
    AlreadyReleased,
    BadSignature,
    CohortTooSmall,
    DuplicateKey,
    ForeignKeys,
    OwnKeysChanged,
    RosterPadded,
    SpecMismatch,
    WrongThreshold,
)
from .share import Rostered
from .state import Bound, Move, Setup, State


@dataclass(frozen=True, slots=True)
class Advertised(State, kind="client/advertised"):
    """The keys are stored and may be shown."""

    phase: ClassVar[str] = "advertised"
    setup: Setup
    keys: Keys
    entry: Entry

    def receive_roster(self, roster: Roster, spec_for: Callable[[int], Spec]) -> Move[Rostered]:
        check_roster(self.setup, self.entry, roster)
        check_spec(self.setup, roster, spec_for)
        return Move(Rostered(self.setup, self.keys, roster))

    def message(self) -> bytes:
        """Return the advertisement again: the same bytes, for a reply that was lost."""
        return self.entry.encode()


def begin(setup: Setup, key: SigningKey, entropy: Entropy) -> Move[Advertised]:
    """Make the keys of an attempt.  The model need not be known; the checks of the invitation are passed."""
    c, s = SealingKey.generate(entropy), SealingKey.generate(entropy)
    ec, es = KemKey.generate(entropy), KemKey.generate(entropy)
    if setup.name not in {pin.name for pin in setup.pins if pin.key == fingerprint(key.public)}:
        raise BadMessage(f'the manifest of the attempt does not list "{setup.name}" with its present key')
    ctx0 = setup.attempt.ctx0
    unsigned = Entry(setup.name, key.public, ctx0, c.public, ec.public, s.public, es.public, bytes(SIGNATURE))
    entry = signed(unsigned, key)
    return Move(
        Advertised(setup, Keys(c.to_bytes(), ec.to_bytes(), s.to_bytes(), es.to_bytes()), entry), entry
    )


def signed(entry: Entry, key: SigningKey) -> Entry:
    """Return the entry with its signature."""
    statement = advertise(entry.ctx0, entry.name, entry.keys)
    return replace(entry, signature=statement.sign(key))


def check_roster(setup: Setup, own: Entry, roster: Roster) -> None:
    """Rows 7 to 11."""
    n = len(roster.entries)
    fewest = max(terms.FEWEST, setup.min_cohort)
    if not fewest <= n <= terms.MOST:
        raise CohortTooSmall(
            f"the roster has {n} clients; this site takes part with {fewest} to {terms.MOST}"
        )
    _check_pinned(setup, roster)
    for entry in roster.entries:
        if entry.ctx0 != setup.attempt.ctx0:
            raise ForeignKeys(f'the keys of "{entry.name}" were made for another attempt', entry.name)
        statement = advertise(entry.ctx0, entry.name, entry.keys)
        if not statement.signed(entry.identity, entry.signature):
            raise BadSignature(f'the keys of "{entry.name}" are not signed by its identity', entry.name)
    keys = [key for entry in roster.entries for key in entry.keys]
    if len(set(keys)) != len(keys):
        raise DuplicateKey(f"{len(keys) - len(set(keys))} keys of the roster are copies of others")
    if own not in roster.entries:
        raise OwnKeysChanged("the roster does not show this client's keys as it sent them")


def _check_pinned(setup: Setup, roster: Roster) -> None:
    """Row 8: pinned, sorted, each once."""
    pins = {pin.name: pin.key for pin in setup.pins}
    for entry in roster.entries:
        if pins.get(entry.name) != fingerprint(entry.identity):
            raise RosterPadded(f'"{entry.name}" with this identity is not pinned at this site', entry.name)
    names = [entry.name for entry in roster.entries]
    if names != sorted(set(names)):
        raise RosterPadded("the names of the roster are not sorted, or one is there twice")


def check_spec(setup: Setup, roster: Roster, spec_for: Callable[[int], Spec]) -> None:
    """Rows 12 and 13, and the equal spec that a repeated release asks for."""
    n, theirs = len(roster.entries), roster.spec
    if theirs.terms.clients != n:
        raise WrongThreshold(f"the spec counts {theirs.terms.clients} clients; the roster has {n}")
    if problem := theirs.terms.problem(setup.max_colluding, setup.min_cohort):
        raise WrongThreshold(problem)
    own = spec_for(n)
    if theirs != own:
        raise SpecMismatch(f"the spec differs from the plan's for {n} clients in {_difference(theirs, own)}")
    if setup.only is not None:
        _check_repeat(setup.only, roster)


def _check_repeat(only: Bound, roster: Roster) -> None:
    """Row 5, once more: an equal spec, n included, and all whose sum it is.

    With another roster of n the others, bound to nothing, could be a quorum for a set of their own that has
    this client's upload in it: its vector would be in two sums, though it agreed to one.
    """
    if only.spec != roster.spec.digest:
        raise AlreadyReleased("an open attempt may only be repeated under an equal spec; this one differs")
    if away := sorted(set(only.u2) - roster.numbers.keys()):
        raise AlreadyReleased(
            f"an open attempt may only be repeated with {', '.join(away)}, who is not there"
        )


def _difference(theirs: Spec, own: Spec) -> str:
    names = ("codec", "length", "terms", "ring", "protection")
    return ", ".join(name for name in names if getattr(theirs, name) != getattr(own, name))
