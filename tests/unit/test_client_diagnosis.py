"""What a client and `join` say when a handshake fails: gRPC's UNAVAILABLE, looked into."""

import subprocess
import sys
from pathlib import Path

import pytest
from tls_world import CA, DAY, NOW, Shifted, coordinator, forged, listening, site, tls

from unisono.base.errors import BadCredentials, Unreachable
from unisono.client.runtime.diagnosis import look, reason, worded
from unisono.client.runtime.enrol import enrol
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.joining import join_once
from unisono.client.runtime.status import Untrusted, make
from unisono.identity import Authority, JoinToken

WORDS = "the TLS certificate shown is not from this federation's CA"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


def untrusted() -> Unreachable:
    error = make(Untrusted, "cannot reach x: the TLS certificate shown is not ours", 2.0)
    assert isinstance(error, Unreachable)
    return error


def test_a_client_that_goes_on_trying_says_it_in_one_line(tmp_path: Path) -> None:
    with listening(tls(tmp_path, *forged("ACME Web Gateway", "localhost"))) as port:
        folder = site(tmp_path / "site", f"localhost:{port}")
        said = reason(untrusted(), folder, f"localhost:{port}", NOW)
    assert said.startswith(f"cannot reach localhost:{port}: {WORDS} a proxy that inspects TLS")
    assert "\n" not in said


def test_what_is_no_handshake_is_not_looked_into(tmp_path: Path) -> None:
    refused = Unreachable("cannot reach x: connection refused; nothing listens there", 1.0)
    assert reason(refused, tmp_path, "x:1", NOW) == str(refused)
    assert reason(untrusted(), tmp_path, "x:1", NOW) == str(untrusted())  # no certificate to look with


def test_an_error_keeps_its_class_and_pause(tmp_path: Path) -> None:
    with listening(coordinator(tmp_path, ["fl.example.org"])) as port:
        found = look(f"localhost:{port}", CA.certificate_pem, NOW)
    better = worded(untrusted(), "x:1", found)
    assert (type(better), better.retry_after) == (Untrusted, 2.0)
    assert str(better).splitlines()[-1] == "  unisono doctor shows each step"
    assert worded(untrusted(), "x:1", None).args == untrusted().args


def token() -> str:
    certificate, key = CA.issue_bootstrap("hospital-a", NOW, DAY)
    return JoinToken("cardio", CA.certificate_pem, certificate, key).encode()


def test_joining_through_a_gateway_names_it(tmp_path: Path) -> None:
    with (
        listening(tls(tmp_path, *forged("ACME Web Gateway", "localhost"))) as port,
        pytest.raises(Unreachable, match='issuer "ACME Web Gateway"'),
    ):
        enrol(tmp_path / "client", f"localhost:{port}", token(), Shifted())


def test_joining_under_a_name_that_the_certificate_lacks_is_no_use(tmp_path: Path) -> None:
    """A client that joins at its start gives up too: the name that it dials is for a person to correct."""
    halt = Halt()
    with (
        listening(coordinator(tmp_path, ["fl.example.org"])) as port,
        pytest.raises(
            BadCredentials, match=r"is for fl\.example\.org, not for localhost\n  dial one of"
        ) as said,
    ):
        join_once(tmp_path / "client", f"localhost:{port}", token, not_called, Shifted(), halt)
    halt.close()
    assert str(said.value).startswith(f"cannot join at localhost:{port}: ")


def not_called(why: str, again_in: float) -> None:
    raise AssertionError(why)


def test_joining_another_federation_blames_the_token(tmp_path: Path) -> None:
    with (
        listening(coordinator(tmp_path, ["localhost"], ca=Authority.create("neuro", NOW))) as port,
        pytest.raises(BadCredentials, match='is of federation "cardio"'),
    ):
        enrol(tmp_path / "client", f"localhost:{port}", token(), Shifted())


WHEN_GRPC_COMES = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_VERBOSITY"))
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""


@pytest.mark.parametrize(
    "module",
    ["unisono.client.admin.connection", "unisono.client.runtime.enrol", "unisono.server.services.tls"],
)
def test_grpc_says_nothing_of_its_own(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported, it reads how loud it shall be; its lines stood before ours on the screen."""
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    said = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WHEN_GRPC_COMES, module], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[0] == "NONE"
