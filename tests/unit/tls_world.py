"""Servers that show all kinds of certificates, a proxy that looks into TLS, and a site's folder by hand."""

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from unisono.base.system_clock import SystemClock
from unisono.crypto import TlsKey
from unisono.identity import Authority, request
from unisono.probe import Ask

DAY = 86_400.0
NOW = time.time()
CA = Authority.create("cardio", NOW - 200 * DAY)

Serve = Callable[[socket.socket], None]


@dataclass
class Shifted(SystemClock):
    """Real time, `shift` seconds later."""

    shift: float = 0.0

    def wall(self) -> float:
        return super().wall() + self.shift


@contextmanager
def listening(serve: Serve) -> Iterator[int]:
    """Accept on a port of localhost, a thread a connection, until the block is left."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=guarded, args=(connection,), daemon=True).start()

        def guarded(connection: socket.socket) -> None:
            connection.settimeout(5)
            try:
                with connection:
                    serve(connection)
            except OSError:
                pass  # the other side went away, which is what these servers are for

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            socket.create_connection(server.getsockname()).close()
            thread.join(5)


def tls(folder: Path, key: bytes, certificate: bytes, alpn: str = "h2", ca: bytes | None = None) -> Serve:
    """Return what shakes hands, says a byte and leaves; with `ca` it asks for a certificate of that."""
    files = folder / "server.key", folder / "server.pem"
    for file, data in zip(files, (key, certificate), strict=True):
        file.write_bytes(data)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    context.set_alpn_protocols([alpn])
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=ca.decode())

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.sendall(b"\0")
            secured.recv(1)

    return serve


def coordinator(folder: Path, hosts: list[str], issued: float = NOW, ca: Authority = CA) -> Serve:
    """Return a coordinator's end of TLS, its certificate issued at `issued` for 90 days."""
    key = TlsKey.generate()
    certificate = ca.issue_server(request(key), hosts, issued)
    return tls(folder, key.to_pem(), certificate)


@dataclass
class Gateway:
    """A proxy for CONNECT that shows certificates of its own CA instead of the server's."""

    folder: Path
    issuer: str = "ACME Web Gateway"
    asked: list[str] = field(default_factory=list)
    status: str = "200 Connection established"

    def __call__(self, connection: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = connection.recv(1)
            if not data:
                return
            head += data
        target = head.split()[1].decode()
        self.asked.append(target)
        connection.sendall(f"HTTP/1.1 {self.status}\r\n\r\n".encode())
        if self.status.startswith("200"):
            key, certificate = forged(self.issuer, target.rpartition(":")[0])
            tls(self.folder, key, certificate)(connection)


def forged(issuer: str, host: str) -> tuple[bytes, bytes]:
    """Return key and certificate as a gateway makes them: for any host, signed by its own CA."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def site(folder: Path, address: str, issued: float = NOW, ca: Authority = CA, life: float = 30 * DAY) -> Path:
    """Write the folder of a site that joined."""
    folder.mkdir(parents=True, exist_ok=True)
    key = TlsKey.generate()
    (folder / "client.toml").write_text(f'coordinator = "{address}"\n')
    (folder / "ca.pem").write_bytes(CA.certificate_pem)
    (folder / "tls.key").write_bytes(key.to_pem())
    (folder / "tls.pem").write_bytes(ca.issue_tls(request(key), "client", "hospital-b", issued, life))
    return folder


def ask(folder: Path, shift: float = 0.0, **environment: str) -> Ask:
    """Return what the command line would ask."""
    return Ask(folder, "", None, Shifted(shift), environment, lambda _: None)
