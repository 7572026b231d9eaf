"""A plan as somebody at a site reads it before agreeing: what it does here, what leaves, to whom.

Pure.  Said of the plan that will run, so every number of it that matters to a site is here.
"""

import json
from collections.abc import Iterator, Mapping

from unisono.client.runtime.approvals import Record
from unisono.plan import Plan
from unisono.plan.thresholds import FEWEST, MOST
from unisono.secagg.shared.laying import terms_of

from .promises import staying

_NAMED = 12  # sites that are listed by name


def described(plan: Plan, cohort: int) -> Iterator[tuple[str, str]]:
    """Yield (what, words) of a plan; `cohort` is the number of clients as far as known, 0 if it is not."""
    rounds, training = plan.rounds, plan.training
    yield "task", f'"{plan.task}": {_count(rounds.count, "round")}, {rounds.attempts} attempts each at most'
    if plan.task_parameters:
        yield "parameters", _listed(plan.task_parameters)
    yield (
        "model",
        "made here from the plan's seed" if plan.model.init == "clients" else "given by the operator",
    )
    yield (
        "training",
        f"{_count(training.epochs, 'epoch')} in each round, batches of {training.batch_size}, "
        f"{training.optimizer}, learning rate {training.learning_rate:g}",
    )
    yield "strategy", f"{plan.aggregation.strategy} ({_listed(plan.aggregation.parameters)})"
    yield "ends", _ends(plan)
    yield "who", _who(plan)
    yield (
        "leaves here",
        "once the names and shapes of the model's tensors; in each round one update of the model and the "
        f"sums of its metrics, {_reader(plan)}",
    )
    yield "stays here", "examples, code, and what the task prints"
    yield "protection", _protection(plan, cohort)


def _ends(plan: Plan) -> str:
    stop = plan.stop
    ends = [f"after {_count(plan.rounds.count, 'round')}"]
    if stop.metric and stop.target:
        ends.append(f"when {stop.metric} reaches {stop.target:g}")
    if stop.metric and stop.patience:
        ends.append(f"after {_count(stop.patience, 'round')} without better {stop.metric}")
    if stop.max_seconds:
        ends.append(f"after {stop.max_seconds:g} s")
    return ", or ".join(ends)


def _who(plan: Plan) -> str:
    size, least = plan.cohort.size, plan.cohort.min_survivors
    who = f"{_count(size, 'client')}" if size else "all clients that offer the task when the run starts"
    who += ", later ones too" if plan.cohort.roster == "open" else ""
    return f"{who}; at least {least} in each round" if least else who


def _reader(plan: Plan) -> str:
    cap = f"weighted by the number of examples here, {plan.training.max_examples} at most"
    match plan.protection.mode:
        case "secagg":
            return f"{cap}, and hidden with the update: the coordinator reads sums over several sites only"
        case "sealed":
            return f"{cap}: THE COORDINATOR READS THIS SITE'S UPDATE, weight and metrics by themselves"
        case mode:
            return f'{cap}, under "{mode}"'


def _protection(plan: Plan, cohort: int) -> str:
    mode = plan.protection.mode
    if mode == "sealed":
        return "sealed: encrypted on the way and on disk, open to whoever runs the coordinator"
    clients = cohort or plan.cohort.size
    if not FEWEST <= clients <= MOST:
        return f"{mode}; how many may conspire or vanish is known when the run starts"
    terms = terms_of(plan, clients, clients)
    if problem := terms.problem():
        return f"{mode}; with {clients} clients no round can succeed: {problem}"
    c = terms.colluding
    conspire = (
        f"{c} may conspire with the coordinator" if c else "no client may conspire with the coordinator"
    )
    return f"{mode}: a sum holds {terms.minimum} updates at least; {staying(terms)}; {conspire}"


def promise(record: Record) -> str:
    """Say what the protection is worth, which follows from how the roster was pinned (reference 1.1)."""
    pinned, name = record.question.pinned, f"unisono client plans approve {record.id}"
    if pinned is None:
        return (
            "the roster is not known before the run starts; then it is shown here, to be compared with the "
            "other sites: what nobody compared was written by the coordinator alone"
        )
    names = [name for name, _ in pinned.sites]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    sites = f"{len(names)} sites of {pinned.run} ({', '.join(names[:_NAMED])}{more})"
    if record.compared:
        how = "policy.toml names it" if pinned.in_policy else "somebody here compared it"
        return f"{sites}; {how}: sums stay closed to a coordinator that deviates and invents sites, too"
    return (
        f"{sites}; nobody compared it, so the promise holds against a coordinator that is curious and "
        f"invents no sites. Read the digest to the other sites on the phone, then: {name} --roster DIGEST"
    )


def grouped(digest: str) -> str:
    """Write a digest to be read out on the phone, in groups of four."""
    return " ".join(digest[at : at + 4] for at in range(0, len(digest), 4))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(table: Mapping[str, object]) -> str:
    return (
        ", ".join(f"{key} = {json.dumps(value)}" for key, value in sorted(table.items())) or "no parameters"
    )
