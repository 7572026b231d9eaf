"""Every error of ours has a status, and comes out at the client as what it was."""

import grpc
import pytest

from unisono.base import errors
from unisono.base.errors import Error, Fault, Unavailable, WrongPhase
from unisono.server.runtime.presence import HelloFirst
from unisono.server.services.status import status_of
from unisono.server.services.words import printable


def family(base: type[Error]) -> list[type[Error]]:
    return [base, *(found for below in base.__subclasses__() for found in family(below))]


OURS = [kind for kind in family(Error) if kind.__module__ in (errors.__name__, HelloFirst.__module__)]


def made(kind: type[Error]) -> Error:
    if issubclass(kind, Unavailable):
        return kind("why", 2.5)
    return WrongPhase("waiting", "why") if kind is WrongPhase else kind("why")


@pytest.mark.parametrize("kind", [kind for kind in OURS if kind is not Error])
def test_every_error_travels(kind: type[Error]) -> None:
    status, text, metadata = status_of(made(kind))
    assert dict(metadata)["unisono-code"] == kind.code
    assert "why" in text
    assert ("unisono-retry-after", "2.5") in metadata or not issubclass(kind, Unavailable)
    expected = {
        "not_enrolled": grpc.StatusCode.PERMISSION_DENIED,
        "not_found": grpc.StatusCode.NOT_FOUND,
        "bad_configuration": grpc.StatusCode.INVALID_ARGUMENT,
        "bad_credentials": grpc.StatusCode.UNAUTHENTICATED,
        "refused": grpc.StatusCode.FAILED_PRECONDITION,
        "wrong_phase": grpc.StatusCode.FAILED_PRECONDITION,
        "hello_first": grpc.StatusCode.FAILED_PRECONDITION,
        "peer_fault": grpc.StatusCode.INVALID_ARGUMENT,
        "bad_message": grpc.StatusCode.INVALID_ARGUMENT,
        "bad_update": grpc.StatusCode.INVALID_ARGUMENT,
        "corrupt": grpc.StatusCode.DATA_LOSS,
        "unavailable": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "unreachable": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "fault": grpc.StatusCode.INTERNAL,
    }
    assert status is expected[kind.code]


def test_what_is_not_ours_says_nothing_of_its_inside() -> None:
    status, text, metadata = status_of(KeyError("/srv/secret"))
    assert status is grpc.StatusCode.INTERNAL
    assert "secret" not in text
    assert metadata == (("unisono-code", Fault.code),)


def test_a_message_fits_its_header() -> None:
    assert len(status_of(Fault("x" * 10_000))[1]) == 2000


def test_only_printable_words_are_kept() -> None:
    assert printable("ä\x1b[31m\tred\nnext\u202e" + "z" * 50, 20) == "ä?[31m?red\nnext?zzzz"
