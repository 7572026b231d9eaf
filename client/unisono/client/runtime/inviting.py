"""Rows 1 to 6 of reference 1.4: whether this site takes part in an attempt that it is invited to.

Row 6 has nothing to count yet: no plan has differential privacy, and a policy with `max_epsilon` refuses such
a plan in row 1.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from unisono.base.errors import BadMessage
from unisono.base.ids import ClientName, Digest
from unisono.client.policy import Policy
from unisono.client.session import Objection, Secure
from unisono.crypto import SigningKey
from unisono.plan import Plan
from unisono.secagg.client import Bound, Certificate, Release, Setup, check_releases
from unisono.secagg.client.checks import check_fresh, check_manifest, check_own_statement, check_plan
from unisono.secagg.client.refusals import (
    BadCertificate,
    PlanNotApproved,
    RosterNotPinned,
    RoundReplayed,
    StateRolledBack,
)
from unisono.secagg.shared.certificates import AbandonCertificate
from unisono.secagg.shared.reading import read_certificate
from unisono.secagg.shared.roster import Attempt, Pin, manifest_digest
from unisono.secagg.shared.statements import Statement, abandon, agree

from .agreements import Agreement
from .attempts import Attempts, SecureRun

Judge = Callable[[Plan, int], Objection | None]  # a plan and a cohort (0: not known yet)


@dataclass(frozen=True, slots=True)
class Member:
    """Who this site is in a federation, and what it agrees to."""

    name: ClientName
    key: SigningKey = field(repr=False)
    public: bytes  # of it
    ca: Digest  # fingerprint
    policy: Policy
    judge: Judge


def named(order: Secure) -> Attempt:
    """Return an attempt as the protocol names it."""
    at, manifest = order.attempt, manifest_digest(order.manifest)
    return Attempt(at.run, at.round, at.attempt, order.plan, manifest)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation, and what this site knows that it is held to."""

    member: Member
    store: Attempts
    order: Secure
    compared: tuple[tuple[str, str], ...]  # where digests of rosters stand that people compared

    def setup(self, agreement: Agreement) -> Setup:
        """Return what the attempt begins with.  Raises the first row's refusal that applies."""
        order, run = self.order, self.store.run(self.order.attempt.run)
        self._check_plan(agreement)
        self._check_manifest(run)
        self._check_place()
        attempt = named(order)
        if run.ended:
            raise RoundReplayed(f"{attempt.run} is over at this site")
        check_fresh(attempt, run.highest, is_open=False)
        only = self._free(attempt)
        member = self.member
        return Setup(
            member.name,
            attempt,
            order.manifest,
            member.policy.min_cohort,
            member.policy.max_colluding,
            only,
            order.model,
        )

    def _check_plan(self, agreement: Agreement) -> None:
        """Row 1."""
        said = self.member.judge(agreement.plan, 0)
        if said is not None and said.code == PlanNotApproved.code:
            raise PlanNotApproved(said.reason)
        mode = agreement.plan.protection.mode
        wrong = (
            None
            if mode == "secagg"
            else f'the plan asks for protection "{mode}", the coordinator for "secagg"'
        )
        check_plan(self.order.plan, None, said.reason if said is not None else wrong)

    def _check_manifest(self, run: SecureRun) -> None:
        """Row 2."""
        offered = self.order.manifest
        found = manifest_digest(run.pins or offered)
        for where, wanted in self.compared:
            if found != wanted:
                raise RosterNotPinned(f"{where} = {wanted[:12]}...; the run's roster has {found[:12]}...")
        check_manifest(run.pins or offered, offered, (), self.member.ca)

    def _check_place(self) -> None:
        """Row 3.  That the file is no copy was checked when it was opened; here: what of it is left."""
        at = self.order.attempt
        if self.store.is_left(at.run, at.round):
            raise StateRolledBack(
                f"the file of open attempts was copied or restored from a backup; this site leaves round "
                f"{at.round} and goes on with the next one"
            )

    def _free(self, attempt: Attempt) -> Bound | None:
        """Row 5, and row 3 for what the certificates show of this site."""
        releases = self.store.releases(attempt.run)
        certificates = [self._certificate(raw) for raw in self.order.certificates]
        self._check_known(certificates, releases)
        by_ctx = {certificate.ctx: certificate for certificate in certificates}
        limit = self.member.policy.max_releases_per_model
        return check_releases(releases, by_ctx, attempt, self.order.model, limit)

    def _certificate(self, raw: bytes) -> Certificate:
        try:
            return read_certificate(raw)
        except BadMessage as wrong:
            raise BadCertificate(f"a certificate cannot be read: {wrong}") from None

    def _check_known(self, certificates: Iterable[Certificate], releases: Iterable[Release]) -> None:
        """Row 3: a certificate with this site's signature is of an attempt that its disk knows."""
        contexts = {release.ctx for release in releases} | self.store.contexts(self.order.attempt.run)
        public = self.member.public
        for certificate in certificates:
            if certificate.ctx in contexts:
                continue
            for _, signature in certificate.signatures:
                check_own_statement(_stated(certificate), signature, public, ())


def _stated(certificate: Certificate) -> Statement:
    if isinstance(certificate, AbandonCertificate):
        return abandon(certificate.ctx)
    return agree(certificate.ctx, certificate.u1, certificate.u2)


def pins_of(order: Secure) -> tuple[Pin, ...]:
    """Return an order's manifest in the order of names."""
    return tuple(sorted(order.manifest, key=lambda pin: pin.name))
