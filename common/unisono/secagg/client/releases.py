"""What of this site may be opened, and what closes it: no two sums may differ by few clients.

An attempt is a release from the moment its upload signature leaves: the others can open the sum without
this client.  It is closed by an abandon certificate, or by an agree certificate of a set without this client.
These records outlive the attempt's secrets, and stay until the run ends.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from unisono.base.ids import ClientName, Digest
from unisono.secagg.shared.certificates import AbandonCertificate, AgreeCertificate
from unisono.secagg.shared.encoding import Coded
from unisono.secagg.shared.roster import Attempt
from unisono.secagg.shared.statements import Members
from unisono.secagg.shared.terms import Terms

from .refusals import AlreadyReleased, BadCertificate
from .state import Bound, Frame

Certificate = AbandonCertificate | AgreeCertificate


@dataclass(frozen=True, slots=True)
class Release(Coded, kind="client/release"):
    """One attempt with an own upload signature: enough of it to judge a certificate."""

    attempt: Attempt
    ctx: bytes
    model: Digest
    spec: bytes  # digest
    terms: Terms
    number: int  # this client's
    names: tuple[ClientName, ...]
    identities: tuple[bytes, ...]
    u1: Members
    vector: bytes  # digest of the quantised one
    only: Bound | None  # if it repeats another release's sum: then it is no release of its own

    @classmethod
    def of(cls, frame: Frame, u1: Members, vector: bytes) -> "Release":
        """Return the record of this attempt."""
        entries, setup = frame.roster.entries, frame.setup
        return cls(
            setup.attempt,
            frame.ctx,
            frame.model,
            frame.spec.digest,
            frame.spec.terms,
            frame.me,
            tuple(entry.name for entry in entries),
            tuple(entry.identity for entry in entries),
            u1,
            vector,
            setup.only,
        )

    def identity(self, number: int) -> bytes | None:
        """Return who signs under this number."""
        return self.identities[number - 1] if 1 <= number <= len(self.identities) else None

    @property
    def _called(self) -> str:
        return f"attempt {self.attempt.attempt} of round {self.attempt.round}"

    def concerns(self, attempt: Attempt, model: Digest) -> bool:
        """Tell whether a sum of this attempt could be compared with one of this release."""
        same_run = self.attempt.run == attempt.run
        return same_run and (self.attempt.round == attempt.round or self.model == model)

    def judge(self, certificate: Certificate) -> Bound | None:
        """Return None if the certificate closes this release, else the one sum that it lets out.

        Raises BadCertificate.
        """
        if certificate.ctx != self.ctx or not certificate.holds(self.identity, self.terms):
            abandoned = isinstance(certificate, AbandonCertificate)
            needed = self.terms.closing if abandoned else self.terms.threshold
            raise BadCertificate(
                f"the certificate for {self._called} does not hold: {len(certificate.signatures)} names, "
                f"{needed} valid ones by members needed"
            )
        match certificate:
            case AgreeCertificate(u2=u2) if self.number in (number for number, _ in u2):
                names = sorted(self.names[number - 1] for number, _ in u2)
                return Bound(tuple(names), self.vector, self.model, self.spec)
        return None


def check_releases(
    releases: Iterable[Release],
    certificates: Mapping[bytes, Certificate],
    attempt: Attempt,
    model: Digest,
    max_releases: int = 1,
) -> Bound | None:
    """Row 5.  Return None if this attempt is free, else the open sum that it may only repeat.

    Args:
        releases: all of the run, from this site's disk.
        certificates: what the coordinator shows, by context.
        attempt: the one that it invites to.
        model: the one that it starts from.
        max_releases: the policy's `max_releases_per_model`.

    """
    still_open: list[Release] = []
    bounds: list[Bound | None] = []
    for release in releases:
        if not release.concerns(attempt, model):
            continue
        certificate = certificates.get(release.ctx)
        bound = release.judge(certificate) if certificate is not None else release.only
        if certificate is None or bound is not None:
            still_open.append(release)
            bounds.append(bound)
    if _sums(still_open, bounds) < max_releases:
        return None
    return _one_bound(still_open, bounds, attempt)


def _sums(still_open: list[Release], bounds: list[Bound | None]) -> int:
    """Count the sums that may still be opened.

    A repeat is the sum that it repeats, once; but where that one is closed it counts in its place: otherwise
    the first attempt, abandoned after the second began, would set free a client whom the second still opens.
    """
    first = [bound for release, bound in zip(still_open, bounds, strict=True) if release.only is None]
    repeated = {release.only for release in still_open if release.only is not None}
    return len(first) + len(repeated - set(first))


def _one_bound(still_open: list[Release], bounds: list[Bound | None], attempt: Attempt) -> Bound:
    """Return the bound that all open releases share."""
    known = {bound for bound in bounds if bound is not None}
    if len(known) == 1 and None not in bounds:
        return known.pop()
    one = next((r for r, bound in zip(still_open, bounds, strict=True) if bound is None), still_open[0])
    raise AlreadyReleased(
        f"attempt {one.attempt.attempt} of round {one.attempt.round} may still be opened, so this site "
        f"takes no part in attempt {attempt.attempt} of round {attempt.round}; the signatures of "
        f"{one.terms.closing} clients that abandon it would close it, those of {one.terms.threshold} that "
        "agreed on one set with this site in it would let it be repeated"
    )
