"""The server's end of mutual TLS: its certificate renews itself and is picked up by the next handshake."""

import grpc
import structlog

from unisono.base.clock import Clock
from unisono.crypto import TlsKey
from unisono.identity import Authority, renewal_due, request

log = structlog.get_logger("unisono.tls")


class ServerCertificate:
    """Issues the coordinator's own certificate whenever two thirds of its life are over."""

    def __init__(self, authority: Authority, hosts: tuple[str, ...], life: float, clock: Clock) -> None:
        self._authority, self._hosts, self._life, self._clock = authority, hosts, life, clock
        self._pair: tuple[bytes, bytes] | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that ask for a client certificate of our CA, read anew at each handshake."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._renewed,  # type: ignore[arg-type]  # gRPC takes None for "as before"; its stubs do not
            require_client_authentication=True,
        )

    def current(self) -> bytes:
        """Return the certificate in use, in PEM."""
        return self._current()[1]

    def _current(self) -> tuple[bytes, bytes]:
        now = self._clock.wall()
        if self._pair is None or renewal_due(self._pair[1], now):
            key = TlsKey.generate()
            certificate = self._authority.issue_server(request(key), self._hosts, now, self._life)
            log.info("server_certificate", hosts=self._hosts, renewed=self._pair is not None)
            self._pair = (key.to_pem(), certificate)
        return self._pair

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [self._current()], root_certificates=self._authority.certificate_pem
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a configuration only if it is new: gRPC makes a TLS context of each that it gets."""
        before = self._pair
        found = self._configuration()
        return None if self._pair is before else found
