"""Why a client refuses: the codes of reference 1.4, in the order of its rows.

A refusal changes no state and sends nothing but itself; the client sits the attempt out.  After one with
`stops_run`, which no honest coordinator can cause, the site leaves the run until somebody there has looked.
"""

from typing import ClassVar

from unisono.base.errors import Refused
from unisono.base.ids import ClientName


class Refusal(Refused):
    """A check failed.  `peer` is whom it is about, where it is about one."""

    code = "secagg_refused"
    stops_run: ClassVar[bool] = False

    def __init__(self, text: str, peer: ClientName | None = None) -> None:
        super().__init__(text)
        self.peer = peer


class PlanNotApproved(Refusal):
    """Row 1: nobody at this site approved the plan."""

    code = "plan_not_approved"


class OutsidePolicy(Refusal):
    """Row 1: the plan asks for more than the site's policy allows."""

    code = "outside_policy"


class RosterNotPinned(Refusal):
    """Row 2: the run's manifest is not the one that this site pinned, nor a subset of it."""

    code = "roster_not_pinned"


class StateRolledBack(Refusal):
    """Row 3: the state on disk is a copy or older than what this site once said."""

    code = "state_rolled_back"


class RoundReplayed(Refusal):
    """Row 4: the round is below one that this site has seen in the run."""

    code = "round_replayed"


class AttemptReplayed(Refusal):
    """Row 4: the attempt is not above those that this site has seen in the round."""

    code = "attempt_replayed"


class AlreadyReleased(Refusal):
    """Row 5: an earlier attempt may still be opened: a second sum would give the difference."""

    code = "already_released"


class BadCertificate(Refusal):
    """Row 5: a certificate that should close an attempt does not hold."""

    code = "bad_certificate"


class BudgetSpent(Refusal):
    """Row 6: the privacy budget has no room for one more release."""

    code = "budget_spent"


class CohortTooSmall(Refusal):
    """Row 7: the roster has fewer clients than the protocol or the policy asks for."""

    code = "cohort_too_small"


class RosterPadded(Refusal):
    """Row 8: the roster holds an identity that is not pinned, or one twice."""

    code = "roster_padded"


class BadSignature(Refusal):
    """Row 9: an advertisement is not signed by its identity."""

    code = "bad_signature"


class ForeignKeys(Refusal):
    """Row 9: an advertisement was made for another run, round, attempt or plan."""

    code = "foreign_keys"


class DuplicateKey(Refusal):
    """Row 10: two keys of the roster are the same."""

    code = "duplicate_key"


class OwnKeysChanged(Refusal):
    """Row 11: the roster shows other keys for this client than it sent."""

    code = "own_keys_changed"
    stops_run = True


class WrongThreshold(Refusal):
    """Row 12: the numbers c, t, m are weaker than the protocol or the policy asks for."""

    code = "wrong_threshold"


class SpecMismatch(Refusal):
    """Row 13: the spec differs from what this client computed from the plan."""

    code = "spec_mismatch"


class ClipOutOfRule(Refusal):
    """Row 13: the bound is outside the plan, or cannot be reached from the last one by the rule."""

    code = "clip_out_of_rule"


class BadModel(Refusal):
    """Row 14: the model is not the one announced, does not fit the manifest, or is not finite."""

    code = "bad_model"


class SecondContext(Refusal):
    """Row 15: the same keys are asked for with a second roster or model."""

    code = "second_context"


class WeakKey(Refusal):
    """Row 16: a peer's public key gives no secret."""

    code = "weak_key"


class TooFewShared(Refusal):
    """Row 17: U1 is too small, not of the roster, or without this client: it could be isolated."""

    code = "too_few_shared"


class SecondShareSet(Refusal):
    """Row 17: another U1 than the one shown before."""

    code = "second_share_set"


class OtherContext(Refusal):
    """Row 18: a peer was shown another model, spec or roster."""

    code = "other_context"


class ShareUnreadable(Refusal):
    """Row 19: a peer's parcel does not open."""

    code = "share_unreadable"


class UpdateOutOfRange(Refusal):
    """Row 20: the vector to send has another length than the spec."""

    code = "update_out_of_range"


class VectorChanged(Refusal):
    """Row 20: another vector than the one stored for this context."""

    code = "vector_changed"


class NotASurvivor(Refusal):
    """Row 21: U2 is no subset of U1 with this client's own upload in it."""

    code = "not_a_survivor"


class TooFewSurvivors(Refusal):
    """Row 21: U2 is below the minimum."""

    code = "too_few_survivors"


class SurvivorNotSigned(Refusal):
    """Row 22: a member of U2 did not sign an upload under this context, U1 and digest."""

    code = "survivor_not_signed"
    stops_run = True


class SecondSurvivorSet(Refusal):
    """Row 23: another U2 than the one signed before."""

    code = "second_survivor_set"


class AttemptAbandoned(Refusal):
    """Row 23: this site signed that it will never open the attempt."""

    code = "attempt_abandoned"


class NoQuorum(Refusal):
    """Row 24: too few members of U2 agreed on it."""

    code = "no_quorum"
    stops_run = True


class AlreadyRevealed(Refusal):
    """Rows 24, 27: this site has revealed its shares under this context."""

    code = "already_revealed"


class DeadAndAlive(Refusal):
    """Row 24: a client is listed as survivor and as dropped, twice, or unlike in U2."""

    code = "dead_and_alive"
    stops_run = True
