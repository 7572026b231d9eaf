"""Joining over real mutual TLS: what a token may do, and what each misuse gets."""

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from unisono.base.clock import ManualClock
from unisono.base.errors import BadConfiguration, BadCredentials, Unavailable, Unreachable
from unisono.base.system_clock import SystemClock
from unisono.client.runtime.channel import Credentials, open_channel
from unisono.client.runtime.enrol import MOST_WAIT, enrol, patiently
from unisono.client.runtime.halt import Halt
from unisono.client.runtime.link import Capabilities, Link
from unisono.client.runtime.renewal import due, renew
from unisono.client.runtime.vault import Identity, Vault
from unisono.crypto import SigningKey, TlsKey
from unisono.identity import Authority, JoinToken, Peer, check_key, peer_of, request
from unisono.wire.v1 import enrolment_pb2 as pb
from unisono.wire.v1 import enrolment_pb2_grpc

CLOCK = SystemClock()
DAY = 86_400.0


def caller(context: grpc.ServicerContext) -> Peer:
    """Return who calls; the type stubs take the certificate for an int."""
    return peer_of(bytes(context.auth_context()["x509_pem_cert"][0]))


@dataclass
class Enrolment(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Certifies whoever comes with a token that was not used with other keys."""

    authority: Authority
    spent: dict[str, bytes] = field(default_factory=dict)
    name: str | None = None  # what it certifies instead of the token's name
    lose_replies: int = 0
    life: float = 30 * DAY

    def Enrol(self, asked: pb.EnrolRequest, context: grpc.ServicerContext) -> pb.EnrolReply:  # noqa: N802
        peer = caller(context)
        if self.spent.setdefault(peer.serial, asked.signing_csr) != asked.signing_csr:
            context.set_trailing_metadata((("unisono-code", "bad_credentials"),))
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token was used before")
        if self.lose_replies:
            self.lose_replies -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the reply was lost")
        now, name = CLOCK.wall(), self.name or peer.name
        return pb.EnrolReply(
            name=peer.name,
            number=len(self.spent),
            tls_certificate=self.authority.issue_tls(asked.tls_csr, "client", name, now, self.life),
            signing_certificate=self.authority.issue_signing(asked.signing_csr, peer.name, now),
            federation=self.authority.federation,
        )

    def Renew(self, asked: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewReply:  # noqa: N802
        peer = caller(context)
        return pb.RenewReply(
            tls_certificate=self.authority.issue_tls(asked.tls_csr, "client", peer.name, CLOCK.wall(), DAY)
        )


@dataclass
class Federation:
    authority: Authority
    service: Enrolment
    address: str

    def token(self, name: str = "hospital-a", life: float = DAY, now: float | None = None) -> str:
        began = CLOCK.wall() if now is None else now
        certificate, key = self.authority.issue_bootstrap(name, began, life)
        return JoinToken(self.authority.federation, self.authority.certificate_pem, certificate, key).encode()


@pytest.fixture
def federation() -> Iterator[Federation]:
    authority = Authority.create("cardio", CLOCK.wall())
    key = TlsKey.generate()
    certificate = authority.issue_server(request(key), ["localhost"], CLOCK.wall())
    service = Enrolment(authority)
    server = grpc.server(ThreadPoolExecutor(2))
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(service, server)
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], authority.certificate_pem, require_client_auth=True
    )
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    yield Federation(authority, service, f"localhost:{port}")
    server.stop(None).wait()


def test_joining_leaves_keys_that_never_travelled(federation: Federation, tmp_path: Path) -> None:
    found = enrol(tmp_path, federation.address, federation.token(), CLOCK)
    assert (found.federation, found.name, found.again) == ("cardio", "hospital-a", False)
    assert found.not_after > CLOCK.wall() + 29 * DAY
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir() if path.is_file()}
    keys = {"tls.key", "tls.pem", "signing.key", "signing.pem", "ca.pem", "client.toml", "vault.key"}
    assert keys <= names.keys()
    assert {names[name] for name in keys} == {0o600}
    assert (tmp_path / "client.toml").read_text() == f'coordinator = "{federation.address}"\n'
    credentials = Credentials.read(tmp_path, "tls")
    check_key(TlsKey.from_pem(credentials.key), credentials.certificate)
    vault = Vault(tmp_path, CLOCK)
    assert vault.identity() == Identity("cardio", found.name, 1)
    assert [line.kind for line in vault.audit()] == ["joined"]
    vault.close()


def test_joining_again_keeps_name_identity_and_settings(federation: Federation, tmp_path: Path) -> None:
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    before = (tmp_path / "signing.key").read_bytes(), (tmp_path / "vault.key").read_bytes()
    old = (tmp_path / "tls.key").read_bytes()
    settings = tmp_path / "client.toml"
    settings.write_text('# ours\ncoordinator = "elsewhere:1"\ndevice = "cpu"\n')
    found = enrol(tmp_path, federation.address, federation.token(), CLOCK)
    assert found.again
    assert ((tmp_path / "signing.key").read_bytes(), (tmp_path / "vault.key").read_bytes()) == before
    assert (tmp_path / "tls.key").read_bytes() != old
    assert settings.read_text() == f'# ours\ncoordinator = "{federation.address}"\ndevice = "cpu"\n'


def test_a_lost_reply_does_not_cost_the_token(federation: Federation, tmp_path: Path) -> None:
    federation.service.lose_replies = 1
    token = federation.token()
    with pytest.raises(Unreachable):
        enrol(tmp_path, federation.address, token, CLOCK)
    assert enrol(tmp_path, federation.address, token, CLOCK).name == "hospital-a"
    assert not (tmp_path / "pending.key").exists()


def test_a_used_token_says_so(federation: Federation, tmp_path: Path) -> None:
    token = federation.token()
    enrol(tmp_path / "a", federation.address, token, CLOCK)
    with pytest.raises(BadCredentials, match="used before"):
        enrol(tmp_path / "b", federation.address, token, CLOCK)


def test_an_expired_token_says_so_without_dialling(federation: Federation, tmp_path: Path) -> None:
    token = federation.token(life=10.0, now=CLOCK.wall() - 3600)
    with pytest.raises(BadCredentials, match="expired at"):
        enrol(tmp_path, "localhost:1", token, CLOCK)


@pytest.mark.parametrize("harm", [lambda t: t[:-30], lambda t: t[:40] + "AAAA" + t[44:], lambda t: "hello"])
def test_a_cut_or_altered_token_says_so(federation: Federation, tmp_path: Path, harm: object) -> None:
    assert callable(harm)
    with pytest.raises(BadCredentials, match=r"cut or altered|not a join token"):
        enrol(tmp_path, "localhost:1", harm(federation.token()), CLOCK)


def test_a_token_of_another_federation_says_so(federation: Federation, tmp_path: Path) -> None:
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    other = Federation(Authority.create("neuro", CLOCK.wall()), federation.service, federation.address)
    with pytest.raises(BadCredentials, match="another federation"):
        enrol(tmp_path, federation.address, other.token(), CLOCK)


def test_a_token_for_another_name_does_not_take_over_a_folder(federation: Federation, tmp_path: Path) -> None:
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    with pytest.raises(BadConfiguration, match="belongs to hospital-a"):
        enrol(tmp_path, federation.address, federation.token("hospital-b"), CLOCK)


def test_a_certificate_with_another_name_is_not_kept(federation: Federation, tmp_path: Path) -> None:
    federation.service.name = "hospital-z"
    with pytest.raises(BadCredentials, match="hospital-z"):
        enrol(tmp_path, federation.address, federation.token(), CLOCK)
    assert not (tmp_path / "tls.pem").exists()


def test_a_coordinator_that_is_not_there_is_unreachable(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"cannot reach localhost:1: .*refused"):
        enrol(tmp_path, "localhost:1", federation.token(), CLOCK)


def test_a_coordinator_of_another_federation_is_named_as_such(federation: Federation, tmp_path: Path) -> None:
    other = Federation(Authority.create("neuro", CLOCK.wall()), federation.service, federation.address)
    with pytest.raises(BadCredentials, match=r'of federation "neuro", .* is not its coordinator'):
        enrol(tmp_path, federation.address, other.token(), CLOCK)


def test_an_expired_certificate_is_noticed_before_dialling(federation: Federation, tmp_path: Path) -> None:
    federation.service.life = 60.0
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    late = ManualClock(wall=CLOCK.wall() + 3600)
    with pytest.raises(BadCredentials, match=r"hospital-a expired on .* UTC\n  .*new token"):
        open_channel(Credentials.read(tmp_path, "tls"), federation.address, late)


def test_renewal_replaces_key_and_certificate_together(federation: Federation, tmp_path: Path) -> None:
    federation.service.life = 60.0
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    before = Credentials.read(tmp_path, "tls")
    assert not due(tmp_path, CLOCK.wall())
    assert due(tmp_path, CLOCK.wall() + 50)
    halt = Halt()
    link = Link(
        lambda: Credentials.read(tmp_path, "tls"), federation.address, Capabilities((), (), ()), CLOCK, halt
    )
    link.open()
    assert renew(link, tmp_path, CLOCK.wall()) > CLOCK.wall() + 3600
    after = Credentials.read(tmp_path, "tls")
    assert after.key != before.key
    check_key(TlsKey.from_pem(after.key), after.certificate)
    assert peer_of(after.certificate).name == "hospital-a"
    link.close()
    halt.close()


def test_a_renewal_for_another_key_leaves_the_old_pair(federation: Federation, tmp_path: Path) -> None:
    enrol(tmp_path, federation.address, federation.token(), CLOCK)
    before = Credentials.read(tmp_path, "tls")

    class Wrong:
        def renew(self, csr: bytes) -> bytes:
            return federation.authority.issue_tls(
                request(TlsKey.generate()), "client", "hospital-a", CLOCK.wall(), DAY
            )

    with pytest.raises(BadCredentials, match="does not belong to the private key"):
        renew(Wrong(), tmp_path, CLOCK.wall())
    assert Credentials.read(tmp_path, "tls") == before
    assert SigningKey.from_bytes((tmp_path / "signing.key").read_bytes()).public


def test_joining_waits_its_turn_as_long_as_the_coordinator_says() -> None:
    answers: list[Unavailable | str] = [
        Unavailable("too many tries", 20.0),
        Unavailable("too many", 0.5),
        "in",
    ]
    slept: list[float] = []

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    assert patiently(ask, slept.append) == "in"
    assert 20.0 <= slept[0] <= 25.0  # spread out: others were told the same
    assert 0.5 <= slept[1] <= 0.7


def test_joining_gives_up_in_the_end_and_at_once_where_nobody_is() -> None:
    slept: list[float] = []

    def busy() -> str:
        raise Unavailable("too many tries", 60.0)

    def gone() -> str:
        raise Unreachable("cannot reach it", 1.0)

    with pytest.raises(Unavailable, match="too many tries"):
        patiently(busy, slept.append)
    assert 180 <= sum(slept) <= MOST_WAIT
    slept.clear()
    with pytest.raises(Unreachable):
        patiently(gone, slept.append)
    assert slept == []
