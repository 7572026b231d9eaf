"""What a person at the site reads: one line an event in a pipe, sentences and bars on a terminal."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from unisono.base.clock import ManualClock
from unisono.client.runtime import notices
from unisono.client.runtime.journal import Journal
from unisono.client.runtime.notices import (
    CannotReach,
    ClocksDiffer,
    Connected,
    Moved,
    Notice,
    PlanAccepted,
    PlanDeclined,
    PlanWaits,
    Refusal,
    Renewed,
    RoundOver,
    RunOver,
    Stepped,
    WorkFailed,
)
from unisono.client.runtime.screen import Lines, Terminal, sentence

CONNECTED = Connected("cardio", "hospital-a", 3, 4)
LOST = CannotReach("cannot reach fl:8443: connection refused", 0.4)
FAILED = WorkFailed("r-0007", 3, "task_error", "the task raised an error", 'ValueError: "Meier"')
NOTICES: list[tuple[Notice, str]] = [
    (CONNECTED, "hospital-a   connected to cardio (3 of 4 clients online), waiting for a run"),
    (LOST, "hospital-a   cannot reach fl:8443: connection refused; trying again in 0.40 s"),
    (
        PlanAccepted("r-0007", "readmission", 20, "sealed"),
        "  r-0007     readmission, 20 rounds, sealed; within your policy",
    ),
    (
        PlanWaits("r-0007", "9d5e66ee" * 8),
        "  r-0007     waits for somebody here: unisono client plans show 9d5e66ee",
    ),
    (PlanDeclined("r-0007", "policy min_cohort = 5"), "  r-0007     declined: policy min_cohort = 5"),
    (
        Stepped("r-0007", 3, "upload", 10_400_000, 5.0),
        "  round 3    upload      10.4 MB, 2.1 MB/s",
    ),
    (Stepped("r-0007", 3, "training", 0, 14.0), "  round 3    training    14 s"),
    (RoundOver("r-0007", 3, True, 4), "  round 3    done        counted with 3 others"),
    (RoundOver("r-0007", 3, False, 2), "  round 3    done        not counted; the model has 2 others"),
    (RunOver("r-0007", "stopped", "by the operator"), "  r-0007     stopped: by the operator"),
    (Renewed(1_800_000_000.0), "hospital-a   certificate renewed, valid until 2027-01-15"),
    (ClocksDiffer(-400.0), "hospital-a   this machine's clock is 6 m 40 s ahead of the coordinator's"),
    (Refusal("refused", "too late"), "hospital-a   the coordinator says: too late"),
]


@pytest.mark.parametrize(("notice", "words"), NOTICES, ids=lambda value: type(value).__name__)
def test_every_notice_is_a_sentence(notice: Notice, words: str) -> None:
    assert sentence("hospital-a", notice) == words


def test_a_pipe_gets_one_stable_line_an_event_and_no_progress() -> None:
    out = StringIO()
    lines = Lines(ManualClock(), out)
    for notice in (
        CONNECTED,
        CONNECTED,
        Moved("r-0007", 3, "upload", 1, 2),
        RoundOver("r-0007", 3, True, 4),
        FAILED,
        LOST,
        CONNECTED,
    ):
        lines(notice)
    assert out.getvalue().splitlines() == [
        "2023-11-14T22:13:20Z event=connected federation=cardio name=hospital-a online=3 enrolled=4",
        "2023-11-14T22:13:20Z event=round_over run=r-0007 round=3 counted=true survivors=4",
        "2023-11-14T22:13:20Z event=work_failed run=r-0007 round=3 code=task_error "
        'text="the task raised an error"',
        '2023-11-14T22:13:20Z event=cannot_reach reason="cannot reach fl:8443: connection refused" '
        "again_in=0.400",
        "2023-11-14T22:13:20Z event=connected federation=cardio name=hospital-a online=3 enrolled=4",
    ]


def test_a_terminal_draws_a_bar_for_what_lasts_and_leaves_one_line() -> None:
    out, clock = StringIO(), ManualClock()
    terminal = Terminal("hospital-a", clock, out)
    terminal(Moved("r-0007", 3, "upload", 1, 100))
    assert out.getvalue() == ""
    clock.advance(2.0)
    terminal(Moved("r-0007", 3, "upload", 50, 100))
    terminal(Stepped("r-0007", 3, "upload", 100, 2.0))
    terminal.close()
    assert out.getvalue().splitlines()[-1] == "  round 3    upload      100 B, 50 B/s"


def test_a_terminal_says_connected_again_only_after_an_outage() -> None:
    out = StringIO()
    terminal = Terminal("hospital-a", ManualClock(), out)
    for notice in (CONNECTED, CONNECTED, LOST, CONNECTED):
        terminal(notice)
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["connected", "cannot", "connected"]


def test_the_journal_keeps_what_the_task_said_and_is_for_its_owner_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "client.log", "info")
    journal(Moved("r-0007", 3, "upload", 1, 2))
    journal(FAILED)
    journal.close()
    (line,) = (json.loads(text) for text in (tmp_path / "client.log").read_text().splitlines())
    assert (line["event"], line["level"], line["detail"]) == ("WorkFailed", "warning", 'ValueError: "Meier"')
    assert (tmp_path / "client.log").stat().st_mode & 0o777 == 0o600


def test_the_words_of_secure_aggregation() -> None:
    pinned = notices.RosterPinned("r-0007", 5, "SHA256:fb3e-91c4", compared=False)
    words = sentence("hospital-a", pinned)
    assert "roster of 5 sites SHA256:fb3e-91c4" in words
    assert "only the coordinator wrote it" in words
    assert "coordinator" not in sentence("hospital-a", replace(pinned, compared=True))
    refused = notices.SatOut("r-0007", 3, 1, "no_quorum", "1 of 3 agreed", True, "ab" * 32)
    words = sentence("hospital-a", refused)
    assert "round 3    not taken   1 of 3 agreed" in words
    assert "unisono client plans approve abababab" in words
    assert "stopped" not in sentence("hospital-a", replace(refused, stops_run=False))
    waits = notices.PlanWaits("r-0007", "cd" * 32)
    assert "unisono client plans" in sentence("hospital-a", waits)
