"""The same bytes, moved bare: what the machine allows, and nothing of ours but the shape of a message.

One server process and as many client processes as in the round, mutual TLS, gRPC, 1 MiB chunks, down and
then up; no hashing, no encryption, no disk, no sums, no state.  Run by rounds.py.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc

from unisono.crypto import TlsKey
from unisono.identity import Authority, request
from unisono.wire.v1 import transfer_pb2, transfer_pb2_grpc, types_pb2

CHUNK = 1 << 20


def pieces(total: int) -> list[bytes]:
    """Return `total` bytes in chunks, cut beforehand: no two are the same memory, as in a model."""
    return [os.urandom(min(CHUNK, total - offset)) for offset in range(0, total, CHUNK)]


def messages(chunks: list[bytes]) -> Iterator[types_pb2.Chunk]:
    for number, data in enumerate(chunks):
        yield types_pb2.Chunk(offset=number * CHUNK, data=data)


class Bare(transfer_pb2_grpc.TransferServiceServicer):
    """Sends and drops."""

    def __init__(self, total: int) -> None:
        self._chunks = pieces(total)

    async def Begin(self, request: transfer_pb2.BeginRequest, context: Any) -> transfer_pb2.BeginReply:  # noqa: N802
        return transfer_pb2.BeginReply()

    async def Upload(self, requests: AsyncIterator[Any], context: Any) -> transfer_pb2.UploadReply:  # noqa: N802
        taken = 0
        async for chunk in requests:
            taken += len(chunk.data)
        return transfer_pb2.UploadReply(offset=taken, complete=True)

    async def Download(  # noqa: N802
        self, request: transfer_pb2.DownloadRequest, context: Any
    ) -> AsyncIterator[types_pb2.Chunk]:
        for message in messages(self._chunks):
            yield message


async def serve(home: Path, total: int) -> None:
    """Serve with a certificate of the federation's CA; print the port; end with standard input."""
    ca = home / "coordinator"
    authority = Authority.from_pem((ca / "ca.key").read_bytes(), (ca / "ca.pem").read_bytes())
    key = TlsKey.generate()
    certificate = authority.issue_server(request(key), ["localhost"], time.time(), 86_400.0)
    credentials = grpc.ssl_server_credentials(
        [(key.to_pem(), certificate)], root_certificates=authority.certificate_pem, require_client_auth=True
    )
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    transfer_pb2_grpc.add_TransferServiceServicer_to_server(Bare(total), server)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(0)


def take_part(site: Path, port: int, total: int) -> None:
    """Move `total` bytes down and up for each line of standard input."""
    mine = pieces(total)
    ca, certificate, key = (
        (site / "client" / name).read_bytes() for name in ("ca.pem", "tls.pem", "tls.key")
    )
    credentials = grpc.ssl_channel_credentials(ca, key, certificate)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        grpc.channel_ready_future(channel).result(30)
        stub = transfer_pb2_grpc.TransferServiceStub(channel)
        print("ready", flush=True)
        for _ in sys.stdin:
            got = sum(len(c.data) for c in stub.Download(transfer_pb2.DownloadRequest()))
            sent = stub.Upload(messages(mine)).offset
            print("done" if got == sent == total else f"moved {got} and {sent}", flush=True)


def measure(home: Path, sites: list[Path], total: int, rounds: int = 5) -> list[float]:
    """Return the seconds of each round: every client down and up, from the first byte to the last."""
    words = [sys.executable, __file__]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen([*words, "server", str(home), str(total)], **pipes)]
    try:
        port = _line(running[0])
        running += [subprocess.Popen([*words, "client", str(s), str(total), port], **pipes) for s in sites]
        clients = running[1:]
        for client in clients:
            _expect(client, "ready")
        seconds = []
        for _ in range(rounds):
            began = time.perf_counter()
            for client in clients:
                print(file=client.stdin, flush=True)
            for client in clients:
                _expect(client, "done")
            seconds.append(time.perf_counter() - began)
        return seconds
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _expect(process: "subprocess.Popen[str]", word: str) -> None:
    said = _line(process)
    if said != word:
        raise RuntimeError(f"a bare process said {said!r}, not {word!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("total", type=int)
    parser.add_argument("port", type=int, nargs="?")
    given = parser.parse_args()
    if given.role == "server":
        asyncio.run(serve(given.folder, given.total))
    else:
        take_part(given.folder, given.port, given.total)
