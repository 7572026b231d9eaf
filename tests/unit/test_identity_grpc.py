"""The certificates in gRPC's own TLS: real server, real client, loopback, mutual authentication."""

from __future__ import annotations  # the classes of grpc are generic in its stubs only

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from unisono.crypto import TlsKey
from unisono.identity import Authority, peer_of, request

NOW = time.time()
CA = Authority.create("cardio", NOW)
METHOD = "/test.Who/Who"


class Who(grpc.GenericRpcHandler):
    """Answers with the peer that its certificate names."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(self._who)

    @staticmethod
    def _who(_: bytes, context: grpc.ServicerContext) -> bytes:
        peer = peer_of(bytes(context.auth_context()["x509_pem_cert"][0]))
        return f"{peer.kind} {peer.name}".encode()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    key = TlsKey.generate()
    certificate = CA.issue_server(request(key), ["localhost", "127.0.0.1"], NOW)
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], CA.certificate_pem, require_client_auth=True
    )
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((Who(),))
        bound = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield bound
        server.stop(None).wait()


def ask(target: str, key: TlsKey, certificate: bytes, root: bytes = CA.certificate_pem) -> bytes:
    credentials = grpc.ssl_channel_credentials(root, key.to_pem(), certificate)
    with grpc.secure_channel(target, credentials) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return call(b"", timeout=5)


def client(authority: Authority = CA, now: float = NOW, life: float = 86_400) -> tuple[TlsKey, bytes]:
    key = TlsKey.generate()
    return key, authority.issue_tls(request(key), "client", "hospital-a", now, life)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_both_sides_accept_each_other(port: int, host: str) -> None:
    assert ask(f"{host}:{port}", *client()) == b"client hospital-a"


def test_a_bootstrap_certificate_connects_as_such(port: int) -> None:
    certificate, key = CA.issue_bootstrap("hospital-b", NOW, 86_400)
    assert ask(f"localhost:{port}", key, certificate) == b"bootstrap hospital-b"


def test_strangers_the_expired_and_the_server_itself_stay_out(port: int) -> None:
    server_key = TlsKey.generate()
    for key, certificate in (
        client(Authority.create("cardio", NOW)),
        client(now=NOW - 100, life=50),
        (server_key, CA.issue_server(request(server_key), ["localhost"], NOW)),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            ask(f"localhost:{port}", key, certificate)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_client_refuses_a_coordinator_of_another_federation(port: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        ask(f"localhost:{port}", *client(), root=Authority.create("cardio", NOW).certificate_pem)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
