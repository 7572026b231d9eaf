"""What this site knows about an instruction: its policy's word, what is in the vault, what is in the cache.

Before any work it checks that the round is the one it agreed to: the plan's digest, and a spec that is
exactly what plan and manifest lead to.  A coordinator cannot ask for other coordinates, other metrics or
fewer bits.
"""

import time
from collections.abc import Callable

from unisono import strategies
from unisono.base.clock import Clock
from unisono.base.errors import BadConfiguration, BadMessage
from unisono.base.ids import Digest
from unisono.client.config import Config
from unisono.client.policy import Policy, judge
from unisono.client.session import Consider, Idle, Instruction, Known, Objection, Secure, SendModel, Work
from unisono.codec import Spec, head_names
from unisono.plan import Plan, digest
from unisono.plan.layout import lanes_of
from unisono.tensors import Manifest

from .agreements import manifest_of, plan_of, spec_of
from .approvals import Approvals, Question
from .cache import Cache
from .vault import Agreed, Vault

NOT_APPROVED = "plan_not_approved"
NOT_JOINED, BAD_PLAN, BAD_SPEC, NO_TASK = "not_joined", "bad_plan", "bad_spec", "task_not_offered"


class Knowledge:
    """Answers about instructions; changes nothing but the list of plans that were asked about."""

    def __init__(
        self, judgement: "Judgement", vault: Vault, cache: Cache, protection: Callable[[Secure], Known]
    ) -> None:
        self._judgement, self._vault, self._cache = judgement, vault, cache
        self._protection = protection

    def of(self, instruction: Instruction, recipient: str) -> Known:
        """Return what is known; `recipient` is the key that updates are sealed to, hex."""
        match instruction:
            case Consider():
                return self._of_plan(instruction)
            case SendModel(run=run, model=model):
                agreed = self._vault.run(run)
                if agreed is None or agreed.model != model:
                    return Known(Objection(NOT_JOINED, "this site has not announced that model"))
                return Known(cached=self._cache.has(model))
            case Work():
                return self._of_work(instruction, recipient)
            case Secure():
                return self._protection(instruction)
            case Idle():
                return Known()

    def _of_plan(self, asked: Consider) -> Known:
        try:
            plan = plan_of(asked.plan)
        except BadConfiguration as error:
            return Known(Objection(BAD_PLAN, str(error)))
        objection = self._judgement(plan, asked.cohort)
        looking = self._judgement.waits(asked.digest, objection)
        self._judgement.ask(asked, looking, objection)
        if objection:
            return Known(looking=True) if looking else Known(objection)
        agreed = self._vault.run(asked.run)
        prepared = (
            agreed is not None
            and agreed.digest == asked.digest
            and agreed.manifest is not None
            and (agreed.model is None or self._cache.has(agreed.model))
        )
        return Known(prepared=prepared)

    def _of_work(self, work: Work, recipient: str) -> Known:
        agreed = self._vault.run(work.attempt.run)
        objection = self._objection_to_work(work, agreed)
        if objection:
            return Known(objection)
        return Known(
            finished=self._vault.update(work.key, recipient),
            cached=self._cache.has(work.model, work.model_bytes),
        )

    def _objection_to_work(self, work: Work, agreed: Agreed | None) -> Objection | None:
        if agreed is None or agreed.digest != work.plan or agreed.manifest is None:
            return Objection(NOT_JOINED, "this site has not agreed to that plan")
        try:
            plan, manifest = plan_of(agreed.plan), manifest_of(agreed.manifest)
            if plan.protection.mode != "sealed":
                raise BadMessage(f'it is asked for sealed, the plan has protection "{plan.protection.mode}"')
            spec = spec_of(work.spec)
            check_spec(spec, plan, manifest, work)
        except BadMessage as error:
            return Objection(BAD_SPEC, f"the round does not fit the plan: {error}")
        return self._judgement(plan, spec.clients)


class Judgement:
    """Whether this site takes part in a plan at all: what it offers, its policy, the time of day."""

    def __init__(self, config: Config, policy: Policy, approvals: Approvals, clock: Clock) -> None:
        self._config, self._policy, self._approvals, self._clock = config, policy, approvals, clock

    def waits(self, plan: Digest, objection: Objection | None) -> bool:
        """Tell whether all that is missing is that somebody here looks at the plan."""
        asks = self._policy.approve == "ask" and self._approvals.answer(plan) is None
        return asks and objection is not None and objection.code == NOT_APPROVED

    def ask(self, asked: Consider, waits: bool, objection: Objection | None) -> None:
        """Put a plan on the list of those that were asked about."""
        declined = objection.reason if objection is not None and not waits else ""
        question = Question(
            digest=asked.digest, plan=asked.plan.decode(), run=asked.run, cohort=asked.cohort,
            asked=self._clock.wall(), waits=waits, declined=declined,
        )  # fmt: skip
        self._approvals.ask(question)

    def __call__(self, plan: Plan, cohort: int) -> Objection | None:
        """Return why not; a cohort of 0 is not known yet."""
        identity = digest(plan)
        answer = self._approvals.answer(identity)
        if answer is not None and answer.said == "rejected":
            return Objection(NOT_APPROVED, f"somebody at this site rejected the plan: {answer.reason}")
        if plan.task not in self._config.tasks:
            offered = ", ".join(sorted(self._config.tasks)) or "none"
            return Objection(NO_TASK, f'task "{plan.task}" is not offered here (offered: {offered})')
        if plan.aggregation.strategy not in strategies.known():
            return Objection(BAD_PLAN, f'strategy "{plan.aggregation.strategy}" is not installed here')
        here = time.localtime(self._clock.wall())
        cohort = cohort or self._policy.min_cohort
        approved = (identity,) if answer is not None else ()
        refusal = judge(self._policy, plan, cohort, 60 * here.tm_hour + here.tm_min, approved)
        return Objection(refusal.code, refusal.reason) if refusal else None


def check_spec(spec: Spec, plan: Plan, manifest: Manifest, work: Work) -> None:
    """Raise BadMessage unless `spec` is what plan and manifest lead to, for any bounds and cohort."""
    strategy = strategies.load(plan.aggregation.strategy)
    parameters = strategy.Parameters.model_validate(plan.aggregation.parameters)
    wanted = strategy.parts(parameters, manifest) if work.what == "train" else ()
    found = [(part.name, part.length, part.weighted) for part in spec.parts]
    if found != [(part.name, part.length, part.weighted == "examples") for part in wanted]:
        raise BadMessage(f"its parts are {found!r:.200}")
    if spec.head != head_names(manifest.metrics):
        raise BadMessage(f"its head is {spec.head!r:.200}")
    if spec.lanes != (lanes := lanes_of(plan, spec.clients, first=work.attempt.round == 1)):
        raise BadMessage(f"its lanes have {spec.lanes} bits, not {lanes}")
    if work.model_bytes != manifest.file_bytes:
        raise BadMessage(f"its model has {work.model_bytes} bytes, not {manifest.file_bytes}")
