from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import cast

import pytest
from sqlalchemy.event import listen

from unisono import plan as plans
from unisono.base.errors import NotFound
from unisono.base.ids import ClientName, Digest, RunId
from unisono.plan import Plan
from unisono.server.rounds import (
    Aggregated,
    AttemptFailed,
    Ended,
    Forget,
    Joined,
    MetricsKnown,
    ModelKept,
    Prune,
    RoundPublished,
    Run,
    Step,
    Tick,
    Uploaded,
    begin,
)
from unisono.server.store import LATEST, Change, Store, Window
from unisono.tensors import Entry, Manifest

A, B, C = ClientName("a"), ClientName("b"), ClientName("c")
PLAN = Plan.model_validate({"task": "x", "protection": {"mode": "sealed"}})
MANIFEST = Manifest((Entry("w", (3,), "F32", travels=True),), ())


def digest(letter: str) -> Digest:
    return Digest(letter * 64)


def start(store: Store) -> tuple[RunId, Run]:
    step = begin(PLAN, 0.0)
    run = store.create(plans.canonical(PLAN), plans.digest(PLAN), step, 0.0, 1000.0, "admin")
    return run, step.run


def published(round_: int, model: Digest) -> RoundPublished:
    return RoundPublished(round_, 1, (A, B, C), (A, B), 2.5, model, ((C, "silent for 60 s"),))


def runs_of(store: Store, before: int = 0) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", store.runs(before)["runs"])


def listed(store: Store, before: int = 0) -> list[object]:
    return [document["id"] for document in runs_of(store, before)]


def test_a_run_survives_what_saved_it(reopen: Callable[[], Store]) -> None:
    store = reopen()
    run, machine = start(store)
    assert run == "r-0001"
    assert store.active() == (run,)
    later = replace(machine, roster=(A, B), away=frozenset({B}), manifest=MANIFEST.digest)
    store.save(run, Change(later, now=12.5, wall=1012.5, effects=(Forget(1, 1),)))
    stored = reopen().load(run)
    assert stored.run == later
    assert stored.now == 12.5
    assert stored.plan == plans.canonical(PLAN)
    assert [effect for _, effect in stored.todo] == [Forget(1, 1)]


def test_numbers_of_effects_are_never_used_again(store: Store) -> None:
    run, machine = start(store)
    first = store.save(run, Change(machine, 0.0, 0.0, effects=(Forget(1, 1), Forget(1, 2))))
    assert len(set(first)) == 2
    second = store.save(run, Change(machine, 0.0, 0.0, effects=(Forget(2, 1),), done=first))
    assert not set(first) & set(second)
    assert store.todo(run) == ((second[0], Forget(2, 1)),)
    store.save(run, Change(machine, 0.0, 0.0, done=first))  # struck off again after a crash
    assert store.todo(run) == ((second[0], Forget(2, 1)),)


def test_two_runs_do_not_mix(store: Store) -> None:
    one, machine = start(store)
    two, _ = start(store)
    store.save(one, Change(machine, 0.0, 0.0, effects=(Forget(1, 1),)))
    assert store.todo(two) == ()
    assert store.active() == (one, two)
    assert store.latest() == two
    assert listed(store) == [two, one]


def test_an_ended_run_is_active_until_its_effects_are_done(store: Store) -> None:
    run, machine = start(store)
    over = replace(machine, stage=Ended("stopped", "the operator"))
    (number,) = store.save(run, Change(over, 1.0, 1001.0, effects=(Forget(1, 1),)))
    assert store.active() == (run,)
    store.save(run, Change(over, 1.0, 1002.0, done=(number,)))
    assert store.active() == ()
    assert runs_of(store)[0]["ended"] == 1001.0


def test_show_is_the_document_of_the_design(store: Store) -> None:
    run, machine = start(store)
    store.save(run, Change(machine, 1.0, 1.0, traffic=((1, 10, 20),)))
    facts = (
        MetricsKnown(0, (("loss", 0.7),)),
        AttemptFailed(1, 1, "2 of 3 updates arrived"),
        replace(published(1, digest("d")), attempts=2),
        MetricsKnown(1, (("loss", 0.5), ("accuracy", float("nan")))),
    )
    later = replace(machine, round=1, model=digest("d"))
    store.save(run, Change(later, 2.0, 2.0, facts=facts, traffic=((1, 1, 2), (2, 5, 0))))
    shown = store.show(run)
    assert shown["rounds"] == [
        {
            "round": 1,
            "attempts": 2,
            "cohort": ["a", "b", "c"],
            "survivors": ["a", "b"],
            "seconds": 2.5,
            "metrics": {"loss": 0.5, "accuracy": None},
            "bytes_in": 11,
            "bytes_out": 22,
            "model_sha256": digest("d"),
            "reasons": [["c", "silent for 60 s"]],
            "failures": [[1, "2 of 3 updates arrived"]],
        }
    ]
    expected = {"id": run, "reason": "", "protection": "sealed", "privacy": {}, "model_sha256": digest("d")}
    assert {key: shown[key] for key in expected} == expected
    assert shown["plan_sha256"] == plans.digest(PLAN)


def test_a_round_begun_by_any_fact_or_traffic_is_one_row(store: Store) -> None:
    run, machine = start(store)
    save = partial(Change, machine, 1.0, 1.0)
    store.save(run, save(traffic=((1, 5, 6),)))
    store.save(run, save(traffic=((1, 1, 1), (2, 7, 7)), facts=(AttemptFailed(1, 1, "first"),)))
    store.save(run, save(facts=(AttemptFailed(1, 2, "second"), AttemptFailed(3, 1, "only"))))
    store.save(run, save(facts=(published(1, digest("a")), published(2, digest("b")))))
    shown = store.show(run)["rounds"]
    assert isinstance(shown, list)
    assert [(r["round"], r["bytes_in"], r["bytes_out"]) for r in shown if isinstance(r, dict)] == [
        (1, 6, 7),
        (2, 7, 7),
    ]


def test_a_round_has_few_statements(store: Store) -> None:
    """Each costs the coordinator's processor something, for every update of every client."""
    run, machine = start(store)
    told = list[str]()
    listen(store._database._engine, "before_cursor_execute", lambda *call: told.append(call[2]))
    uploads = tuple(Uploaded(client, 1, 1, digest("a"), 9) for client in (A, B))
    store.save(run, Change(machine, 1.0, 1.0, events=uploads, traffic=((1, 9, 9),)))
    told.clear()
    store.save(run, Change(machine, 1.0, 1.0, events=uploads, traffic=((1, 9, 9),)))
    assert len(told) <= 8, told
    orders = tuple(Forget(1, number) for number in range(4))
    told.clear()
    numbers = store.save(run, Change(machine, 1.0, 1.0, effects=orders))
    store.save(run, Change(machine, 1.0, 1.0, done=numbers))
    assert len(told) <= 8, told


def test_a_long_run_is_shown_in_parts(store: Store) -> None:
    run, machine = start(store)
    facts = tuple(published(number, digest("d")) for number in range(1, 41))
    store.save(run, Change(replace(machine, round=40, model=digest("d")), 2.0, 2.0, facts=facts))

    def shown(window: Window) -> list[object]:
        document = store.show(run, window)
        assert (document["rounds_published"], document["rounds_seconds"]) == (40, 40 * 2.5)
        assert isinstance(document["rounds"], list)
        return [round_["round"] for round_ in document["rounds"] if isinstance(round_, dict)]

    assert shown(LATEST) == list(range(1, 41))
    few = shown(Window(most_bytes=3500))
    assert few == list(range(41 - len(few), 41))
    assert 5 < len(few) < 12
    assert shown(Window(most_bytes=0)) == [40]  # never nothing
    assert shown(Window(1, 0, 3500)) == list(range(1, 1 + len(few)))
    assert shown(Window(10, 12)) == [10, 11, 12]
    assert shown(Window(0, 12, 3500))[-1] == 12
    assert shown(Window(41)) == []


@pytest.mark.parametrize(
    ("stage", "state"), [(None, "waiting"), (Ended("failed", "no client"), "failed")], ids=str
)
def test_the_state_for_people(store: Store, stage: Ended | None, state: str) -> None:
    run, machine = start(store)
    if stage is not None:
        store.save(run, Change(replace(machine, stage=stage), 1.0, 1.0))
    shown = store.show(run)
    assert shown["state"] == state
    assert shown["reason"] == (stage.reason if stage else "")


def test_a_repeated_upload_is_one_row_and_a_refused_save_is_none(store: Store) -> None:
    run, machine = start(store)
    uploaded = Uploaded(A, 1, 1, digest("e"), 100)
    store.save(run, Change(machine, 1.0, 1.0, events=(uploaded, uploaded)))
    lines, before = len(store.audit()), store.load(run)
    broken = Change(replace(machine, round=9), 2.0, 2.0, effects=(Forget(1, 1),), traffic=((1, 2**70, 0),))
    with pytest.raises(OverflowError):  # fails after most of it was written
        store.save(run, broken)
    assert store.load(run) == before
    assert len(store.audit()) == lines


def test_what_is_not_there_is_named(store: Store) -> None:
    missing = RunId("r-0404")
    for ask in (store.load, store.show, store.models):
        with pytest.raises(NotFound, match="r-0404"):
            ask(missing)
    with pytest.raises(NotFound, match="r-0404"):
        store.save(missing, Change(begin(PLAN, 0.0).run, 0.0, 0.0))
    with pytest.raises(NotFound, match="no run yet"):
        store.latest()
    with pytest.raises(NotFound, match="manifest"):
        store.manifest(digest("f"))


def test_models_and_who_may_have_them(store: Store) -> None:
    run, machine = start(store)
    store.put_manifest(MANIFEST.digest, MANIFEST.encode())
    store.put_manifest(MANIFEST.digest, MANIFEST.encode())
    assert store.manifest(MANIFEST.digest) == MANIFEST.encode()
    later = replace(machine, roster=(A, B), manifest=MANIFEST.digest, round=1, best=(0, 0.5, digest("0")))
    facts = (ModelKept(0, digest("0")), ModelKept(1, digest("1")), MetricsKnown(0, (("loss", 0.5),)))
    store.save(run, Change(later, 1.0, 1.0, facts=facts))
    document = store.models(run)
    size = MANIFEST.file_bytes
    assert document["models"] == [
        {
            "round": 0,
            "sha256": digest("0"),
            "bytes": size,
            "best": True,
            "last": False,
            "metrics": {"loss": 0.5},
        },
        {"round": 1, "sha256": digest("1"), "bytes": size, "best": False, "last": True, "metrics": {}},
    ]
    assert document["clients"] == 2
    assert store.find_model(digest("1")) == (run,)
    assert store.rosters_of_model(digest("1")) == (frozenset({A, B}),)
    assert store.rosters_of_model(digest("7")) == ()
    assert store.sizes_of_task("x") == {"model_bytes": size, "coordinates": 3}
    assert store.sizes_of_task("y") == {"model_bytes": None, "coordinates": None}


def test_pruning_spares_other_runs_and_later_rounds(store: Store) -> None:
    run, machine = start(store)
    other, _ = start(store)
    store.save(other, Change(machine, 0.0, 0.0, facts=(ModelKept(0, digest("0")),)))
    first = Aggregated(1, 1, digest("1"), state=(("m", digest("8")),))
    facts = (ModelKept(0, digest("0")), ModelKept(1, digest("1")))
    store.save(run, Change(replace(machine, round=1), 1.0, 1.0, events=(first,), facts=facts))
    keep = (digest("2"),)
    second = Change(
        replace(machine, round=2), 2.0, 2.0, (Prune(2, keep),), facts=(ModelKept(2, digest("2")),)
    )
    store.save(run, second)
    # The next round is over before the order is carried out; its model happens to be that of round 1 again.
    facts = (ModelKept(3, digest("3")), ModelKept(4, digest("1")))
    store.save(run, Change(replace(machine, round=4), 3.0, 3.0, facts=facts))
    assert store.prunable(run, 2, frozenset(keep)) == (digest("8"),)
    store.pruned(run, 2, frozenset(keep), 4.0)
    assert store.prunable(run, 2, frozenset(keep)) == ()
    assert store.owned() == {digest("0"), digest("1"), digest("2"), digest("3")}
    assert store.find_model(digest("0")) == (other,)


def test_the_audit_log_tells_what_happened_in_order(store: Store) -> None:
    run, machine = start(store)
    joined = Joined(A, digest("a"), digest("b"))
    store.save(run, Change(machine, 1.0, 5.0, events=(joined, Tick()), facts=(published(1, digest("d")),)))
    lines = store.audit(run=run)
    assert [line.entry.kind for line in lines] == ["run_created", "joined", "round_published"]
    assert lines[1].entry.subject == "a"
    assert lines[1].wall == 5.0
    count, last = store.verify_audit()
    assert (count, last) == (3, lines[-1].hash)
    events = store.events(run, lines[0].seq)
    assert [(event["event"], event["client"]) for event in events] == [
        ("joined", "a"),
        ("round_published", ""),
    ]
    assert events[0]["manifest"] == digest("a")
    assert store.audit(1) == lines[-1:]


def test_a_new_step_with_effects_and_facts_is_saved_whole(store: Store) -> None:
    step = begin(PLAN, 0.0, (digest("5"), 1.0))
    plain = Step(step.run, (Forget(0, 0),), (ModelKept(0, digest("5")),))
    run = store.create(plans.canonical(PLAN), plans.digest(PLAN), plain, 0.0, 1.0, "admin")
    assert [effect for _, effect in store.load(run).todo] == [Forget(0, 0)]
    assert store.find_model(digest("5")) == (run,)


def test_meta(store: Store) -> None:
    assert store.get_meta("federation") is None
    store.put_meta("federation", "hospitals")
    store.put_meta("federation", "banks")
    assert store.get_meta("federation") == "banks"


def test_lists_of_any_length_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unisono.server.store.views.SHARE", 1200)
    runs = [start(store)[0] for _ in range(7)]
    assert store.runs()["runs_total"] == 7
    found, before = list[object](), 0
    while page := listed(store, before):
        assert len(page) <= 3
        found += page
        before = int(str(page[-1])[2:])
        if before == 1:
            break
    assert found == runs[::-1]


def test_models_of_any_number_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unisono.server.store.views.SHARE", 1000)
    store.put_manifest(MANIFEST.digest, MANIFEST.encode())
    run, machine = start(store)
    kept = tuple(ModelKept(number, digest("abcdef"[number])) for number in range(6))
    later = replace(machine, round=5, manifest=MANIFEST.digest, model=digest("f"))
    store.save(run, Change(later, 1.0, 1.0, facts=kept))
    first = models_of(store, run)
    assert [model["round"] for model in first] == [3, 4, 5]
    assert [model["round"] for model in models_of(store, run, 3)] == [0, 1, 2]
    assert models_of(store, run, 1)[0]["round"] == 0
    assert store.models(run)["models_total"] == 6


def models_of(store: Store, run: RunId, before: int = 0) -> list[dict[str, object]]:
    return cast("list[dict[str, object]]", store.models(run, before)["models"])
