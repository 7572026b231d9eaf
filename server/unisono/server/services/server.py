"""The gRPC server: one port, mutual TLS, every service behind its guard."""

from typing import Any

import grpc

from unisono.base.errors import BadConfiguration
from unisono.identity import Kind
from unisono.server.runtime.acceptance import Acceptance
from unisono.server.runtime.clients import Clients
from unisono.server.runtime.coordinator import Coordinator
from unisono.server.runtime.downloads import Downloads
from unisono.server.runtime.enrolling import Enrolling
from unisono.server.runtime.hall import Hall
from unisono.server.runtime.joins import Joins
from unisono.server.runtime.library import Library
from unisono.server.runtime.operators import Operators
from unisono.server.runtime.turns import Turns
from unisono.server.runtime.uploads import Uploads
from unisono.wire.v1 import admin_pb2_grpc, enrolment_pb2_grpc, round_pb2_grpc

from .admin import AdminService
from .enrolment import EnrolmentService
from .guard import Crowd, Guard
from .metering import measured
from .reading import Registrar
from .rounds import RoundService
from .tls import ServerCertificate
from .transfer import Limits, TransferService, add_to_server

PROTOCOLS = (1, 1)
MAX_MESSAGE = 4 << 20  # bytes; a larger one is refused before it is allocated
OPTIONS = (
    ("grpc.so_reuseport", 0),  # a second coordinator on this port must fail, not share it
    ("grpc.max_concurrent_streams", 100),  # of one connection; a client has a few
    # A window of fixed size: the probe lets each upload buffer up to 15 MB here (32 clients: 731 MB, so 461)
    # and is no faster.  A client's upload gets 2 MiB a round trip: 40 MB/s over 50 ms.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 2 << 20),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # else clients get "too_many_pings"
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),  # without it a frozen client holds its place for 80 s
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    (
        "grpc.max_connection_idle_ms",
        300_000,
    ),  # then one without a call is closed; who calls comes back
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.max_connection_age_grace_ms", 3_600_000),
)


def build(hall: Hall, coordinator: Coordinator, protocols: tuple[int, int] = PROTOCOLS) -> grpc.aio.Server:
    """Return the server with every service; not yet bound to a port."""
    gate = hall.ledger
    config = hall.config
    crowd = Crowd(config.max_calls_per_client)

    def wall() -> float:
        return hall.clock.wall()  # of the clock that the hall has then

    def guard(*kinds: Kind, seconds: float | None = None) -> Guard:
        return Guard(gate, crowd, wall, seconds, *kinds)

    clients = guard("client", seconds=config.long_poll_seconds + config.call_seconds)
    joining = guard("bootstrap", seconds=config.call_seconds)
    admins, anybody = guard("admin"), guard("client", "admin")
    joins = Joins(config.joins_per_minute_per_address, config.joins_per_minute, hall.clock)
    readers = Crowd(config.max_downloads_per_client, "downloads")
    limits = Limits(config.stream_idle_seconds, Turns(config.transfers_at_once), readers)
    acceptance = Acceptance(hall)
    uploads = Uploads(acceptance, hall.spool, hall.blobs, hall.presence, hall.workers, hall.meters)
    downloads = Downloads(hall.blobs, hall.workers, hall.meters)
    server = grpc.aio.server(
        options=(*OPTIONS, ("grpc.server_handshake_timeout_ms", round(1000 * config.handshake_seconds))),
        maximum_concurrent_rpcs=config.max_concurrent_rpcs,
    )
    known = guard("client", "admin", "bootstrap", seconds=config.call_seconds)
    services: Any = Registrar(server, known)  # Any: the generated code names the two classes of servers only
    enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(
        measured(EnrolmentService(Enrolling(hall), joins, joining, anybody), hall.meters), services
    )
    round_pb2_grpc.add_RoundServiceServicer_to_server(
        measured(RoundService(hall, Clients(hall), clients, protocols), hall.meters), services
    )
    transfers = TransferService(uploads, downloads, Library(hall), anybody, limits)
    add_to_server(measured(transfers, hall.meters), services)
    operators = AdminService(Operators(hall, coordinator, acceptance), admins, anybody)
    admin_pb2_grpc.add_AdminServiceServicer_to_server(measured(operators, hall.meters), services)
    return server


def bind(server: grpc.aio.Server, certificate: ServerCertificate, host: str, port: int) -> int:
    """Bind to a port and return it.  Raises BadConfiguration if it is taken."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound: int = server.add_secure_port(address, certificate.credentials())
    except RuntimeError:
        bound = 0
    if not bound:
        raise BadConfiguration(
            f"cannot listen on {address}: the port is in use or not ours to take\n"
            "  end the other program, or choose another port: unisono serve --port N"
        )
    return bound
