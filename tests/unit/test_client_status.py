"""Errors over the wire: the client reads what the coordinator's table writes; how calls end early."""

import threading

import grpc
import pytest
from sim_wire import Broken

from unisono.base.errors import (
    BadConfiguration,
    BadCredentials,
    BadMessage,
    BadUpdate,
    Corrupt,
    Error,
    Fault,
    NotEnrolled,
    NotFound,
    Refused,
    Unavailable,
    Unreachable,
    WrongPhase,
)
from unisono.client.runtime.halt import Halt, Halted, stall_guard
from unisono.client.runtime.status import CoordinatorFault, HelloFirst, error_named, error_of, reason_of
from unisono.secagg.client import refusals
from unisono.secagg.server import faults
from unisono.server.runtime import presence
from unisono.server.services.status import status_of

ERRORS = [
    Refused("no"),
    WrongPhase("aggregating", "Uploaded"),
    NotEnrolled("revoked on 3 May"),
    NotFound("no run r-0009"),
    BadConfiguration("plan.toml: [rounds] count"),
    BadCredentials("the token was used"),
    BadMessage("no"),
    BadUpdate("no"),
    Corrupt("no"),
    Unavailable("disk full", 7.5),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_what_the_coordinator_says_arrives(error: Error) -> None:
    found = error_of(Broken(*status_of(error)), "fl:8443")
    assert type(found) is type(error)
    assert str(found) == str(error)
    if isinstance(error, Unavailable):
        assert isinstance(found, Unavailable)
        assert found.retry_after == 7.5


def test_a_restarted_coordinator_and_a_broken_one_are_told_apart() -> None:
    first = error_of(Broken(*status_of(presence.HelloFirst("who are you"))), "fl:8443")
    assert type(first) is HelloFirst
    for error in (Fault("disk"), ValueError("secret")):
        found = error_of(Broken(*status_of(error)), "fl:8443")
        assert type(found) is CoordinatorFault
        assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ("failed to connect to all addresses; ... Connection refused (111)", "connection refused"),
        (
            "... Ssl handshake failed: CERTIFICATE_VERIFY_FAILED: unable to get",
            "not from this federation's CA",
        ),
        ("DNS resolution failed for nowhere:8443", "does not resolve"),
        ("Deadline Exceeded", "no answer in time"),
    ],
)
def test_a_missing_connection_says_why_as_far_as_it_can_be_known(details: str, words: str) -> None:
    found = error_of(Broken(grpc.StatusCode.UNAVAILABLE, details), "fl:8443")
    assert isinstance(found, Unreachable)
    assert "fl:8443" in str(found)
    assert words in str(found)
    assert words in reason_of(details)


@pytest.mark.parametrize("text", ["nan", "-4", "1e99", "soon"])
def test_a_senseless_delay_is_not_believed(text: str) -> None:
    metadata = (("unisono-code", "unavailable"), ("unisono-retry-after", text))
    found = error_of(Broken(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", metadata), "fl:8443")
    assert isinstance(found, Unavailable)
    assert 0 <= found.retry_after <= 3600


def test_a_code_of_a_later_version_keeps_its_family() -> None:
    found = error_of(
        Broken(grpc.StatusCode.FAILED_PRECONDITION, "no", (("unisono-code", "new_rule"),)), "fl:8443"
    )
    assert type(found) is Refused
    assert type(error_named("not_enrolled", "x")) is NotEnrolled
    assert type(error_named("new_rule", "x")) is Refused


@pytest.mark.parametrize(
    "family", [*faults.Blamed.__subclasses__(), faults.AttemptOpen, faults.TooFewShares, faults.SumMismatch],
    ids=lambda family: family.code,
)  # fmt: skip
def test_what_the_coordinator_says_of_an_attempt_keeps_its_code(family: type[Error]) -> None:
    error = family.__new__(family, "site-001: no")
    found = error_of(Broken(*status_of(error)), "fl:8443")
    assert (type(found), found.code, str(found)) == (family, family.code, "site-001: no")


@pytest.mark.parametrize("family", refusals.Refusal.__subclasses__(), ids=lambda family: family.code)
def test_every_code_of_a_refusal_is_known(family: type[Error]) -> None:
    found = error_named(family.code, "no")
    assert found.code == family.code
    assert isinstance(found, Refused | faults.Blamed)


def test_a_transfer_that_stands_still_is_cancelled_and_one_that_moves_is_not() -> None:
    cancelled = threading.Event()
    with stall_guard(cancelled.set, 0.05):
        assert cancelled.wait(10)
    moving = threading.Event()
    with stall_guard(moving.set, 30.0) as moved:
        moved()
        moved()
    assert not moving.is_set()


def test_asking_to_end_cancels_what_runs_and_what_comes_later() -> None:
    halt, cancelled = Halt(), list[str]()
    with halt.cancelling(lambda: cancelled.append("running")):
        halt.ask()
    assert cancelled == ["running"]
    with pytest.raises(Halted), halt.cancelling(lambda: None):
        pytest.fail("nothing starts after the end")
    with pytest.raises(Halted):
        halt.wait(60)
    halt.close()
