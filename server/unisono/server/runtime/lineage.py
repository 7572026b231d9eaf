"""One active run as the runtime sees it: its driver, and what follows from plan and manifest."""

from dataclasses import dataclass, field

from unisono.base.errors import Refused
from unisono.base.ids import ClientName, Digest, RunId
from unisono.codec import Spec
from unisono.plan import Plan
from unisono.plan.layout import layout_of
from unisono.secagg.shared.encoding import Coded
from unisono.server.rounds import (
    Ended,
    InRound,
    Run,
    Securing,
    ToConsider,
    ToSecure,
    ToSendModel,
    ToWork,
    Waiting,
    duty,
    pins,
    protected,
)
from unisono.tensors import Manifest

from .driver import Driver
from .instructions import Consider, Duty, Outcome, Secure, SendModel, Work
from .layout import upload_bytes


@dataclass(slots=True)
class Lineage:
    """A run and what is known about its models."""

    id: RunId
    plan: Plan
    plan_bytes: bytes
    plan_digest: Digest
    driver: Driver
    manifests: dict[Digest, Manifest] = field(default_factory=dict)  # agreed on, or about to be
    announced: dict[ClientName, set[Digest]] = field(default_factory=dict)  # manifests, by who sent them
    _spec: tuple[tuple[object, ...], Spec] | None = None
    _told: tuple[Coded, bytes] | None = None  # the message told last, and its bytes: many are told the same

    @property
    def run(self) -> Run:
        return self.driver.run

    @property
    def manifest(self) -> Manifest:
        """Return the manifest that the run agreed on.  Raises Refused before that."""
        found = None if self.run.manifest is None else self.manifests.get(self.run.manifest)
        if found is None:
            raise Refused(f"run {self.id} has no model yet")
        return found

    def settle(self, found: Manifest) -> None:
        """Keep a manifest that was announced if it is the run's, now that this is decided; else drop it."""
        if self.run.manifest == found.digest:
            self.manifests = {found.digest: found}
        else:
            self.manifests.pop(found.digest, None)

    def spec(self) -> Spec:
        """Return the layout of this attempt's updates.  Raises Refused outside a round."""
        stage = self.run.stage
        if not isinstance(stage, InRound) or stage.phase.kind == "announced":
            raise Refused(f"run {self.id} expects no updates now")
        if isinstance(stage.phase, Securing):
            return self._frozen_spec()
        key = (stage.what, stage.round, len(stage.phase.cohort), self.run.bounds, self.run.manifest)
        if self._spec is None or self._spec[0] != key:
            self._spec = (key, layout_of(self.plan, self.manifest, *key[:4]))
        return self._spec[1]

    def _frozen_spec(self) -> Spec:
        frozen = protected(self.run).book.frozen
        if frozen is None:
            raise Refused(f"run {self.id} expects no updates now")
        if self._spec is None or self._spec[0] != (frozen.spec.codec,):
            self._spec = ((frozen.spec.codec,), Spec.decode(frozen.spec.codec))
        return self._spec[1]

    def update_bytes(self) -> int:
        """Return the exact size of an update of this attempt as it travels.  Raises Refused."""
        spec = self.spec()
        return spec.bytes if self.plan.protection.mode == "secagg" else upload_bytes(spec)

    def members(self) -> frozenset[ClientName]:
        """Return everybody whom a change of this run may concern."""
        stage = self.run.stage
        if isinstance(stage, Waiting):
            return stage.offered | frozenset(client for client, _ in stage.joined)
        return frozenset(self.run.roster)

    def instruct(self, client: ClientName) -> Duty:
        """Return what `client`, which offers the task, should do for this run now."""
        match duty(self.plan, self.run, client):
            case ToConsider():
                return Consider(self.id, self.plan_bytes, self.plan.cohort.size)
            case ToSendModel(model):
                return SendModel(self.id, model)
            case ToWork(round_, attempt, what, model):
                return Work(
                    self.id,
                    round_,
                    attempt,
                    what,
                    self.plan_digest,
                    model,
                    self.manifest.file_bytes,
                    self.spec().encode(),
                    self.plan.rounds.idle_seconds,
                )
            case ToSecure() as secure:
                return self._secure(secure, client)
            case None:
                return None

    def _secure(self, secure: ToSecure, client: ClientName) -> Secure:
        run = self.run
        message = protected(run).message_for(client)
        certificates = (outcome.certificate for outcome in run.aside.earlier)
        return Secure(
            self.id,
            secure.round,
            secure.attempt,
            secure.what,
            self.plan_digest,
            secure.model,
            self.manifest.file_bytes,
            self.plan.rounds.idle_seconds,
            tuple((pin.name, pin.key) for pin in pins(run)),
            tuple(certificate.encode() for certificate in certificates if certificate is not None),
            b"" if message is None else self._encoded(message),
        )

    def _encoded(self, message: Coded) -> bytes:
        if self._told is None or self._told[0] is not message:
            self._told = message, message.encode()
        return self._told[1]

    def outcome(self, client: ClientName) -> Outcome | None:
        """Return how the last round, or the run, ended for `client`."""
        return outcome_of(self.id, self.run, client)


def outcome_of(id_: RunId, run: Run, client: ClientName) -> Outcome | None:
    """Return how the last round, or the run, ended for `client`."""
    if client not in run.roster:
        return None
    round_, survivors = run.last
    state, reason = "published", ""
    if isinstance(run.stage, Ended):
        state, reason = run.stage.state, run.stage.reason
    elif not round_:
        return None
    return Outcome(id_, round_, state, reason, client in survivors, len(survivors), run.model)
