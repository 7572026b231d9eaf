"""What the coordinator says of a client: the codes of reference 1.5.

A `Blamed` one is a fault of that client, which is left out of the attempt (before U1: without cost) while
the others go on; the rest are refusals of phase, size and waiting.  Neither changes any state.
"""

from unisono.base.errors import PeerFault, Refused
from unisono.base.ids import ClientName


class Blamed(PeerFault):
    """A client broke the protocol."""

    code = "secagg_fault"

    def __init__(self, text: str, client: ClientName) -> None:
        super().__init__(text)
        self.client = client


class WrongIdentity(Blamed):
    """At every call: the sender is not whom the statement names, not of the cohort, or has another key."""

    code = "wrong_identity"


class SecondStatement(Blamed):
    """At every call: a message differs from the one that this client sent before."""

    code = "second_statement"


class BadSignature(Blamed):
    """At 0, 1, 2, 3: a statement is not signed by its sender over what the coordinator holds."""

    code = "bad_signature"


class DuplicateKey(Blamed):
    """At 0: a key was advertised before."""

    code = "duplicate_key"


class WeakKey(Blamed):
    """At 0: a key gives no secret, so that everybody else would refuse the roster."""

    code = "weak_key"


class CohortTooSmall(Refused):
    """At 0, 1: too few clients advertised, or shared, for the plan."""

    code = "cohort_too_small"


class IncompleteShares(Blamed):
    """At 1: parcels are missing, or the vault has another length."""

    code = "incomplete_shares"


class OtherContext(Blamed):
    """At 1: the client is on another model, spec or roster."""

    code = "other_context"


class ShareUnreadable(Blamed):
    """At 1: more than c clients could not read this one's parcels."""

    code = "share_unreadable"


class BadLength(Blamed):
    """At 2: the upload has another length than the spec."""

    code = "bad_length"


class BadDigest(Blamed):
    """At 2: what is stored is not what the client signed."""

    code = "bad_digest"


class TooFewSurvivors(Refused):
    """At 3: too few uploads to freeze the survivor set."""

    code = "too_few_survivors"


class NoQuorum(Refused):
    """At 3: too few survivors have agreed yet."""

    code = "no_quorum"


class BadShares(Blamed):
    """At 4: shares of the wrong kind or client, no shares at all, or not those dealt."""

    code = "bad_shares"


class TooFewShares(Refused):
    """At 4: too few survivors have revealed yet."""

    code = "too_few_shares"


class BadVault(Blamed):
    """At 4: a dropped client's vault does not open, or holds other keys than advertised."""

    code = "bad_vault"


class SumMismatch(Refused):
    """At sum: the opened sum is not one of these survivors in range."""

    code = "sum_mismatch"


class AttemptOpen(Refused):
    """At retry: an earlier attempt may still be opened for a client to be invited."""

    code = "attempt_open"
