"""The site's half of the work: the trainer process, fed with plans and rounds; results go to the vault."""

from collections.abc import Callable
from dataclasses import dataclass

from unisono.base.errors import BadConfiguration, BadMessage, Fault
from unisono.base.ids import ClientName, Digest, RunId, is_digest
from unisono.client.config import Config
from unisono.client.session import Secure, Task, Update, UpdateKey, Work
from unisono.crypto import encode
from unisono.plan import Plan

from .agreements import plan_of
from .cache import Cache
from .link import Link
from .trainer_process import Answer, Described, Finished, Moved, Opened, TaskFailure, TrainerProcess
from .vault import POLICY, Agreed, Vault

KEPT_MODELS = 2  # of a run: the one being worked on, and the one before
Progress = Callable[[Moved], None]


@dataclass(frozen=True, slots=True)
class Vector:
    """What a vector of secure aggregation depends on, its layout, and what its file is bound to."""

    key: UpdateKey
    spec: bytes  # of the codec, canonical
    context: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What the trainer shall write."""

    key: UpdateKey
    spec: bytes
    kind: str
    form: dict[str, object]
    recipient: str  # "" for this site


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request, and the plan whose task is to answer it."""

    plan: Plan
    plan_bytes: bytes
    digest: Digest
    request: dict[str, object]


class Workbench:
    """Opens tasks, makes models, trains.  What it returns is on the disk and in the vault."""

    def __init__(
        self, config: Config, vault: Vault, cache: Cache, trainer: TrainerProcess, key: bytes, number: int
    ) -> None:
        self._config, self._vault, self._cache, self._trainer = config, vault, cache, trainer
        self._key, self._number = key, number
        self._opened: Digest | None = None

    def warm(self) -> None:
        """Start the trainer before it is needed."""
        self._trainer.start()

    def stop(self) -> None:
        self._trainer.stop()

    def prepare(self, run: RunId, plan_bytes: bytes, digest: Digest, by: str = POLICY) -> None:
        """Make the model of the plan's seed; write down that this site takes part.  Raises TaskFailure.

        `by`: who agreed to the plan, for the audit log.
        """
        plan = plan_of(plan_bytes)
        out = self._cache.path(Digest("describe.part"))
        asked = _Asked(plan, plan_bytes, digest, {"do": "describe", "out": str(out)})
        answer = self._ask(asked, _unseen)
        if not isinstance(answer, Described) or not is_digest(answer.model):
            raise TaskFailure("trainer_fault", "the training process broke its protocol")
        model = Digest(answer.model)
        out.replace(self._cache.path(model))
        ours = plan.model.init == "clients"
        agreed = Agreed(run, plan_bytes, digest, answer.manifest.encode(), model if ours else None)
        self._vault.accept(agreed, by)
        self.keep(run, model, answer.bytes)

    def announce(self, run: RunId, link: Link) -> Plan:
        """Tell the coordinator that this site takes part, and with which model."""
        agreed = self._vault.run(run)
        if agreed is None or agreed.manifest is None:
            raise BadMessage(f"this site has not prepared {run}")
        link.joined(run, agreed.manifest, agreed.model)
        return plan_of(agreed.plan)

    def train(self, work: Work, recipient: bytes, progress: Progress) -> Update:
        """Do a round's work; return the finished update, sealed to `recipient`.  Raises TaskFailure."""
        key = work.key
        context = encode("update", key.run, key.round, self._name, key.model, key.spec)
        form: dict[str, object] = {"seal": {"public": recipient.hex(), "context": context.hex()}}
        return self._work(work, Result(key, work.spec, "update", form, recipient.hex()), progress)

    def keep_vector(self, work: Secure, vector: Vector, progress: Progress) -> Update:
        """Do a round's work; keep the vector at rest until it is masked.  Raises TaskFailure."""
        form: dict[str, object] = {"keep": {"context": vector.context.hex()}}
        return self._work(work, Result(vector.key, vector.spec, "vector", form, ""), progress)

    def _work(self, work: Task, result: "Result", progress: Progress) -> Update:
        key, agreed = result.key, self._vault.run(work.attempt.run)
        if agreed is None:
            raise BadMessage(f"this site has not joined {key.run}")
        file = f"{key.run}-{key.round}-{key.model[:16]}-{key.spec[:16]}.{result.kind}"
        request: dict[str, object] = {
            "do": "work",
            "what": work.what,
            "run": key.run,
            "round": key.round,
            "attempt": work.attempt.attempt,
            "model": str(self._cache.path(work.model)),
            "model_sha256": work.model,
            "spec": result.spec.decode(),
            "out": str(self._vault.updates / file),
            "state_in": None,
            "state_out": None,
        } | result.form
        asked = _Asked(plan_of(agreed.plan), agreed.plan, agreed.digest, request)
        answer = self._ask(asked, progress)
        if not isinstance(answer, Finished) or not is_digest(answer.sha256):
            raise TaskFailure("trainer_fault", "the training process broke its protocol")
        update = Update(key, file, Digest(answer.sha256), answer.bytes)
        self._vault.finish(update, result.recipient)
        return update

    def keep(self, run: RunId, model: Digest, size: int) -> None:
        """Note that a model is in use, and drop those that have not been for longest."""
        self._vault.model_used(run, model, size)
        self._cache.sweep(self._vault.strike_off(run, KEPT_MODELS, self._config.cache_bytes))

    @property
    def _name(self) -> ClientName:
        identity = self._vault.identity()
        if identity is None:
            raise BadConfiguration("this folder has not joined a federation\n  run unisono join first")
        return identity.name

    def _ask(self, asked: "_Asked", progress: Progress) -> Answer:
        """Ask the trainer, its task open; once more if it was killed, for the same bytes.

        Whoever killed it may have meant another process; twice is what this machine thinks of the task.
        """
        for last in (False, True):
            try:
                self._open(asked.plan, asked.plan_bytes, asked.digest)
                return self._trainer.ask(asked.request, progress)
            except TaskFailure as failure:
                if last or failure.failure != "killed":
                    raise
        raise Fault("neither an answer nor a failure")

    def _open(self, plan: Plan, plan_bytes: bytes, digest: Digest) -> None:
        """Open the plan's task, unless it is open."""
        if self._opened == digest and self._trainer.alive:
            return
        self._opened = None
        request = {
            "do": "open",
            "task": self._config.tasks[plan.task],
            "site": {"name": self._name, "number": self._number, "data": self._config.data or None},
            "plan": plan_bytes.decode(),
            "device": self._config.device,
            "threads": self._config.threads,
            "key": self._key.hex(),
        }
        if not isinstance(self._trainer.ask(request, _unseen), Opened):
            raise TaskFailure("trainer_fault", "the training process broke its protocol")
        self._opened = digest


def _unseen(moved: Moved) -> None:
    """Take progress of what nobody waits for in numbers."""
