"""The plan: its defaults, its identity, its contradictions, and that no text whatever crashes the reader."""

import json
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unisono.base.errors import BadConfiguration
from unisono.base.ids import is_digest
from unisono.plan import Plan, canonical, check, digest, from_canonical, parse
from unisono.plan.layout import lanes_of
from unisono.plan.thresholds import default_colluding, smallest
from unisono.secagg.shared.laying import terms_of

FULL = """\
task = "readmission"
seed = 1

[model]
init = "clients"

[rounds]
count = 20
attempts = 3
wait = "all"
grace_seconds = 30
idle_seconds = 60

[cohort]
size = 0
min_survivors = 0
roster = "frozen"

[training]
epochs = 1
batch_size = 32
optimizer = "adam"
learning_rate = 0.01
max_examples = 100000

[aggregation]
strategy = "fedavg"

[protection]
mode = "secagg"
max_colluding = -1

[codec]
lanes = "auto"

[stop]
metric = ""
direction = "max"
target = 0.0
patience = 0
max_seconds = 0

[task_parameters]
"""


def told(text: str) -> list[str]:
    with pytest.raises(BadConfiguration) as caught:
        parse(text.encode())
    return str(caught.value).split("\n")


def test_the_design_s_plan_is_the_default_plan() -> None:
    full, short = parse(FULL.encode()), parse(b'task = "readmission"')
    assert full == short
    assert digest(full) == digest(short)


def test_identity_depends_on_meaning_only() -> None:
    plan = parse(b'task = "x"\n[training]\nlearning_rate = 1\n')
    assert is_digest(digest(plan))
    other = b'task="x"  # the same\n[rounds]\n[training]\nlearning_rate=1.0'
    assert digest(plan) == digest(parse(other))
    assert digest(plan) != digest(parse(b'task = "x"\n[training]\nlearning_rate = 1.5\n'))
    assert digest(plan) != digest(parse(b'task = "x"\nseed = 2\n[training]\nlearning_rate = 1\n'))


def test_canonical_bytes_come_back_and_hold_every_default() -> None:
    plan = parse('task = "x"\n[task_parameters]\nname = "é"\nlayers = [1, 2.5, { a = true }]\n'.encode())
    data = canonical(plan)
    assert from_canonical(data) == plan
    assert canonical(from_canonical(data)) == data
    content = json.loads(data)
    assert content["rounds"]["idle_seconds"] == 60.0
    assert content["aggregation"] == {"server_learning_rate": 1.0, "strategy": "fedavg"}
    assert content["task_parameters"] == {"name": "é", "layers": [1, 2.5, {"a": True}]}
    assert b": " not in data
    assert "é".encode() in data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        '{"task":"x"}'.encode("utf-16"),
        b'{"task":"x","zzz":1}',
        b'{"task":1}',
        b"[" * 100_000,
        b"{}" * 600_000,
    ],
)
def test_bad_canonical_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadConfiguration, match=r"^plan: "):
        from_canonical(data)


def test_parameters_of_the_strategy_are_checked_and_completed() -> None:
    plan = parse(b'task = "x"\n[aggregation]\nserver_learning_rate = 2\n')
    assert plan.aggregation.parameters == {"server_learning_rate": 2.0}
    assert parse(b'task = "x"').aggregation.parameters == {"server_learning_rate": 1.0}
    assert told('task = "x"\n[aggregation]\nstratgy = "fedavg"\n') == [
        "plan.toml: [aggregation] stratgy is not a known key",
        '  line 3; did you mean "strategy"?',
    ]
    assert told('task = "x"\n[aggregation]\nserver_learning_rte = 1\n') == [
        "plan.toml: [aggregation] server_learning_rte is not a known key",
        '  line 3; did you mean "server_learning_rate"?',
    ]
    assert told('task = "x"\n[aggregation]\nserver_learning_rate = "1"\n') == [
        'plan.toml: [aggregation] server_learning_rate must be a number, not "1"',
        "  line 3",
    ]


def test_an_unknown_strategy_names_the_known_ones() -> None:
    assert told('task = "x"\n[aggregation]\nstrategy = "fedavgg"\n') == [
        'plan.toml: [aggregation] strategy = "fedavgg" is not installed here',
        '  line 3; did you mean "fedavg"?',
    ]
    assert "fedadam, fedavg, fedsgd" in told('task = "x"\n[aggregation]\nstrategy = "q"\n')[1]


SEALED = 'task = "x"\n[protection]\nmode = "sealed"\n'
SECAGG = '[protection]\nmode = "secagg"\n'
CONTRADICTIONS = {
    '[protection]\nmode = "he"': '[protection] mode = "he" is not available|mode = "secagg"',
    '[protection]\nmode = "sealed"\nmax_colluding = 1': "[protection] max_colluding = 1 promises nothing"
    "|leave it out",
    '[protection]\nmode = "sealed"\n[codec]\nlanes = 16': "[codec] lanes = 16 has no effect|auto",
    "[cohort]\nsize = 3\nmin_survivors = 4": "[cohort] min_survivors = 4 is more than size = 3|line 4",
    "[stop]\npatience = 3": "[stop] patience = 3 has no metric|metric",
    "[stop]\ntarget = 0.5": "[stop] target = 0.5 has no metric|metric",
    SECAGG + "[cohort]\nsize = 2": '[cohort] size = 2 cannot have protection "secagg": the sum of two tells '
    'each the other\'s update|line 5; use size = 3, or use [protection] mode = "sealed" if every',
    SECAGG
    + "[cohort]\nsize = 1": '[cohort] size = 1 cannot have protection "secagg": the sum of one|size = 3',
    SECAGG + "[cohort]\nsize = 101": "[cohort] size = 101 is more than|use at most 100",
    SECAGG + "max_colluding = 3\n[cohort]\nsize = 4": "[protection] max_colluding = 3 of size = 4: beside"
    "|use at most 2",
    SECAGG
    + "[cohort]\nmin_survivors = 2": "[cohort] min_survivors = 2 is too few: the sum of two|use at least 3",
    SECAGG + "[cohort]\nmin_survivors = 101": "[cohort] min_survivors = 101 is more than|line 5",
    SECAGG
    + "[cohort]\nsize = 8\nmin_survivors = 5": "[cohort] min_survivors = 5 is too few: of 8 clients, 2 of|"
    "line 6; use at least 6, or leave it out",
    SECAGG + "max_colluding = 3\n[cohort]\nmin_survivors = 4": "[cohort] min_survivors = 4 is too few: with "
    "max_colluding = 3, a sum|use at least 5",
    SECAGG
    + '[cohort]\nroster = "open"': '[cohort] roster = "open" does not work with protection "secagg"|"frozen"',
}


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_contradictions_are_told_with_the_way_out(text: str) -> None:
    lines = told(f'task = "x"\n{text}')
    what, hint = CONTRADICTIONS[text].split("|")
    assert lines[0].startswith(f"plan.toml: {what}")
    assert hint in lines[1]
    assert "line" in lines[1]


def test_check_says_the_same_of_a_plan_without_its_file() -> None:
    plan = Plan.model_validate({"task": "x", "protection": {"mode": "he"}})
    with pytest.raises(BadConfiguration, match=r"^\[protection\] mode = \"he\" is not available"):
        check(plan)
    check(parse(FULL.encode()))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('task = "Re Ad"', "task must be lower-case letters"),
        (
            'task = "x"\n[model]\ninit = "m.pt"',
            '[model] init must be "clients" or the name of a .safetensors file',
        ),
        ('task = "x"\nseed = -1', "seed must be at least 0, not -1"),
        (
            'task = "x"\n[task_parameters]\nd = 2026-11-21',
            "[task_parameters] d must be text, true, false, a finite number",
        ),
        (
            'task = "x"\n[task_parameters]\nd = nan',
            "[task_parameters] d must be text, true, false, a finite number",
        ),
        ('task = "x"\n[aggregation]\nd = 2026-11-21', "[aggregation] d must be text"),
        (
            'task = "x"\n[aggregation]\nserver_learning_rate = inf',
            "[aggregation] server_learning_rate must be text",
        ),
        (
            'task = "x"\n[task_parameters]\n' + ".".join("a" for _ in range(100)) + " = 1",
            "[task_parameters] a must be text",
        ),
    ],
)
def test_values_that_no_run_could_use(text: str, what: str) -> None:
    assert told(text)[0].startswith(f"plan.toml: {what}")


def test_minimum_and_lanes() -> None:
    plan = parse(SEALED.encode())
    assert [plan.minimum(n) for n in (1, 2, 3, 4, 5, 100)] == [1, 1, 2, 2, 3, 50]
    assert parse(f"{SEALED}[cohort]\nmin_survivors = 3".encode()).minimum(4) == 3
    assert {lanes_of(plan, n, first=True) for n in (1, 16, 100)} == {32}
    assert (plan.needed, parse(f"{SEALED}[cohort]\nsize = 4\nmin_survivors = 2".encode()).needed) == (1, 4)


def secagg(more: str = "", cohort: str = "") -> Plan:
    return parse(f'task = "x"\n{SECAGG}{more}\n[cohort]\n{cohort}'.encode())


def test_a_sum_needs_three_clients_or_two_beside_those_who_conspire() -> None:
    assert secagg().needed == 3
    assert secagg("max_colluding = 4").needed == 6
    assert secagg("", "min_survivors = 5").needed == 5
    assert secagg("max_colluding = 98").needed == 100


def test_lanes_under_secagg_follow_the_cohort_and_the_plan() -> None:
    plan, chosen = secagg(), secagg("[codec]\nlanes = 16")
    assert [lanes_of(plan, n, first=True) for n in (3, 16, 100)] == [21, 21, 21]
    assert [lanes_of(plan, n, first=False) for n in (3, 16, 17, 100)] == [12, 12, 16, 16]
    assert {lanes_of(chosen, n, first=first) for n in (3, 100) for first in (True, False)} == {16}


@given(st.integers(3, 100), st.integers(-1, 98), st.integers(0, 100))
def test_a_plan_whose_numbers_are_accepted_has_terms_that_hold(
    size: int, colluding: int, minimum: int
) -> None:
    """Whatever `check` lets through, a full cohort can carry; what it refuses, none of that size could."""
    text = (
        f'task = "x"\n{SECAGG}max_colluding = {colluding}\n[cohort]\nsize = {size}\nmin_survivors = {minimum}'
    )
    c = default_colluding(size) if colluding < 0 else colluding
    possible = c <= size - 2 and (not minimum or smallest(size, c) <= minimum <= size)
    if not possible:
        with pytest.raises(BadConfiguration):
            parse(text.encode())
        return
    terms = terms_of(parse(text.encode()), size, size)
    assert not terms.problem()
    assert terms.minimum == max(minimum, smallest(size, c)) <= size


MARKS = ['"""', "'", "[", "]", "{", "=", "\n", ".", "#", "nan", "true", "1979-05-27", "\\u0000", "9" * 30]
PIECES = [*FULL.splitlines(keepends=True), *MARKS]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = FULL.encode()
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 5, 40])))
        piece = draw(
            st.sampled_from(PIECES).map(str.encode)
            | st.binary(max_size=4)
            | st.text(max_size=6).map(str.encode)
        )
        data = data[:start] + piece + data[end:]
    return data


@settings(deadline=None)
@given(mutated() | st.binary(max_size=80))
def test_any_text_gives_a_plan_or_three_lines(data: bytes) -> None:
    gives_a_plan_or_three_lines(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"{a=" * 3000,
        b"[a" + b".a" * 100_000 + b"]",
        b'task = "x"\n[task_parameters]\na = ' + b"[" * 200 + b"]" * 200,
        b'task = "x"\nseed = 0x' + b"f" * 100_000,
        b'"' + b"\\n" * 1000 + b'" = 1',
    ],
    ids=range(5),
)
def test_hostile_text_gives_three_lines(data: bytes) -> None:
    gives_a_plan_or_three_lines(data)


def gives_a_plan_or_three_lines(data: bytes) -> None:
    plan, message = None, ""
    try:
        plan = parse(data)
    except BadConfiguration as error:
        message = str(error)
    if plan is not None:
        assert from_canonical(canonical(plan)) == plan
    else:
        assert 1 <= len(message.splitlines()) <= 3
        assert all(len(line) < 400 for line in message.splitlines())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(list(Plan.model_fields)) | st.text(max_size=5), json_values))
def test_any_json_gives_a_plan_or_a_refusal(content: dict[str, object]) -> None:
    data = json.dumps(content).encode()
    try:
        plan = from_canonical(data)
    except BadConfiguration:
        return
    assert cast("dict[str, object]", json.loads(canonical(plan)))["task"] == content["task"]
