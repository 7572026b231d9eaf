"""A site takes part in what its policy allows and declines the rest with both values."""

import pytest

from unisono.base.errors import BadConfiguration
from unisono.client.policy import Policy, Refusal, judge, parse
from unisono.plan import Plan, digest
from unisono.plan import parse as parse_plan

PLAN = parse_plan(b'task = "readmission"\n[protection]\nmode = "sealed"')
NOON = 12 * 60


BOTH = 'protections = ["secagg", "sealed"]\n'


def secagg(colluding: int = -1, **cohort: int) -> Plan:
    return Plan.model_validate(
        {"task": "x", "protection": {"mode": "secagg", "max_colluding": colluding}, "cohort": cohort}
    )


def reason(policy: Policy, plan: Plan = PLAN, cohort: int = 3, minute: int = NOON) -> str:
    refusal = judge(policy, plan, cohort, minute)
    return f"{refusal.code}: {refusal.reason}" if refusal else ""


def test_an_empty_policy_takes_part() -> None:
    assert parse(b"") == Policy()
    assert Policy().protections == ("secagg",), "that the coordinator reads an update, a site says itself"
    assert judge(Policy(), secagg(), 3, NOON) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('tasks = ["mortality"]', 'policy tasks = ["mortality"]; the plan asks for task "readmission"'),
        ("tasks = []", 'policy tasks = []; the plan asks for task "readmission"'),
        (
            'protections = ["secagg"]',
            'policy protections = ["secagg"]; the plan asks for "sealed", in which the coordinator reads '
            'this site\'s update by itself; a site that allows it writes protections = ["secagg", "sealed"]',
        ),
        ("min_cohort = 4", "policy min_cohort = 4; the cohort has 3"),
        ("max_epsilon = 4", "policy max_epsilon = 4; the plan has no differential privacy"),
        ("max_colluding = 1", 'policy max_colluding = 1; protection "sealed" withstands 0'),
        ('hours = "20:00-06:00"', 'policy hours = "20:00-06:00"; it is 12:00 here'),
        (
            f'roster_digest = "{"a" * 64}"',
            'policy roster_digest = "aaaaaaaa..."; protection "sealed" has no roster to compare',
        ),
    ],
)
def test_outside(text: str, why: str) -> None:
    allowed = "" if "protections" in text else BOTH
    assert reason(parse(f"{allowed}{text}".encode())) == f"outside_policy: {why}"


def test_within() -> None:
    policy = parse(
        b'tasks = ["a", "readmission"]\nprotections = ["sealed"]\nmin_cohort = 3\nhours = "08:00-18:00"\n'
    )
    assert reason(policy) == ""


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ("08:00-18:00", (480, 1079), (479, 1080, 0)),
        ("20:00-06:00", (1200, 1439, 0, 359), (360, 1199)),
        ("00:00-23:59", (0, 1438), (1439,)),
    ],
)
def test_hours_include_their_start_and_span_midnight(
    hours: str, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    policy = Policy(hours=hours, protections=("sealed",))
    assert not [minute for minute in inside if reason(policy, minute=minute)]
    assert not [minute for minute in outside if not reason(policy, minute=minute)]


def test_a_plan_that_withstands_fewer_than_the_site_asks_is_declined() -> None:
    weak, strong, automatic = (secagg(c) for c in (1, 2, -1))
    policy = Policy(max_colluding=2)
    assert reason(policy, weak) == (
        "outside_policy: policy max_colluding = 2; the plan withstands 1: it needs "
        "[protection] max_colluding = 2"
    )
    assert (reason(policy, strong), reason(policy, automatic)) == ("", "")


def test_a_sum_of_fewer_than_the_site_asks_is_declined_where_no_roster_could_mend_it() -> None:
    policy = Policy(min_cohort=7)
    assert reason(policy, secagg(), cohort=6) == "outside_policy: policy min_cohort = 7; the cohort has 6"
    assert reason(policy, secagg(size=8), cohort=8) == (
        "outside_policy: policy min_cohort = 7; the plan lets 6 updates make a sum: it needs "
        "[cohort] min_survivors = 7"
    )
    assert reason(policy, secagg(size=8, min_survivors=7), cohort=8) == ""
    assert reason(policy, secagg(), cohort=8) == ""  # the roster will tell
    assert reason(policy, secagg(5, size=8), cohort=8) == ""  # c = 5 asks for 7 of 8 by itself


def test_only_approved_plans_where_the_site_asks_for_that() -> None:
    asks, lists = (
        parse(f"{BOTH}{text}".encode()) for text in ('approve = "ask"', f'plans = ["{digest(PLAN)}"]')
    )
    refusal = judge(asks, PLAN, 3, NOON)
    assert refusal == Refusal(
        "plan_not_approved", f'policy approve = "ask"; nobody here has approved plan {digest(PLAN)} yet'
    )
    assert judge(asks, PLAN, 3, NOON, {digest(PLAN)}) is None
    assert judge(asks, PLAN, 3, NOON, {"ab" * 32}) == refusal
    assert reason(lists) == ""
    other = parse_plan(b'task = "readmission"\nseed = 2\n[protection]\nmode = "sealed"')
    assert reason(lists, other).startswith(f"plan_not_approved: policy plans lists 1; plan {digest(other)}")
    assert reason(parse(f'{BOTH}approve = "ask"\nplans = ["{digest(PLAN)}"]'.encode())) == ""


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("min_chort = 3", 'policy.toml: min_chort is not a known key\n  line 1; did you mean "min_cohort"?'),
        ("min_cohort = 0", "policy.toml: min_cohort must be at least 1, not 0\n  line 1"),
        ('hours = "8-18"', 'policy.toml: hours must be a span such as "20:00-06:00", not "8-18"\n  line 1'),
        ('hours = "08:00-08:00"', 'policy.toml: hours must be a span such as "20:00-06:00"'),
        ('protections = ["seald"]', "policy.toml: protections, item 1 must be"),
        ("protections = []", "policy.toml: protections must hold at least 1\n  line 1"),
        ('plans = ["12"]', 'policy.toml: plans must hold digests of plans (64 hexadecimal digits), not "12"'),
        ("share_log_tail = 1", "policy.toml: share_log_tail must be true or false, not 1"),
        ('max_epsilon = "4"', 'policy.toml: max_epsilon must be a number, not "4"'),
    ],
)
def test_a_wrong_policy_is_told_like_a_wrong_plan(text: str, lines: str) -> None:
    with pytest.raises(BadConfiguration) as caught:
        parse(text.encode())
    assert str(caught.value).startswith(lines)
