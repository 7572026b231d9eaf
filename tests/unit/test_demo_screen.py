"""What a demo says: the pure half of it."""

from unisono.client.admin.documents import Round, Run
from unisono.demo.picture import HEAD, comparison, data_line, protection_line, round_line
from unisono.demo.screen import Lines
from unisono.demo.stage import plan_text
from unisono.plan import parse


def run(*rounds: Round, state: str = "running") -> Run:
    return Run(id="r-0001", state=state, rounds=rounds)


def measured(number: int) -> Round:
    return Round(
        round=number, seconds=0.214, bytes_in=2_090, bytes_out=1_640, metrics={"loss": 0.4, "accuracy": 0.9}
    )


def test_a_round_is_told_once_and_only_when_its_model_has_been_measured() -> None:
    lines = Lines()
    assert lines.news(run()) == [HEAD]
    assert lines.news(run(Round(round=1))) == []
    assert lines.news(run(measured(1), Round(round=2))) == [round_line(measured(1))]
    assert lines.news(run(measured(1), Round(round=2))) == []
    assert lines.news(run(measured(1), measured(2), state="finished")) == [round_line(measured(2))]


def test_a_run_that_ends_without_its_last_measure_still_shows_the_round() -> None:
    assert Lines().news(run(Round(round=1), state="failed")) == [HEAD, round_line(Round(round=1))]


def test_columns_stand_under_their_heads() -> None:
    line = round_line(measured(10))
    for head, value in (
        ("loss", "0.400"),
        ("accuracy", "0.900"),
        ("time", "0.21 s"),
        ("up", "2.1 kB"),
        ("down", "1.6 kB"),
    ):
        assert line.index(value) == HEAD.index(head)


def test_the_data_line_counts_rows() -> None:
    assert data_line([(152, 38), (151, 38)]).endswith("2 hospitals: 152, 151 rows to train, 76 held out")


def test_the_comparison_names_all_three_ways() -> None:
    text = "\n".join(comparison(0.974, [0.947, 0.939], 0.9649))
    assert "0.947  0.939" in text
    assert "together, data stayed   0.974" in text
    assert "pooled (not allowed)    0.965" in text


def test_what_the_coordinator_can_read_is_said() -> None:
    sums, single = (parse(plan_text(3, 1, mode).encode()) for mode in ("secagg", "sealed"))
    assert "the coordinator learns only sums (opened by 2 of 3, never below 3; post" in protection_line(
        sums, 3
    )
    assert "opens them one by one" in protection_line(single, 3)


def test_the_plan_is_a_plan() -> None:
    plan = parse(plan_text(4, 7, "sealed").encode(), "plan.toml")
    assert (plan.rounds.count, plan.cohort.size, plan.task_parameters) == (7, 4, {"parts": 4})
    assert (plan.training.epochs, plan.training.batch_size, plan.training.optimizer) == (1, 10, "adam")
