"""What is in a process's memory, in a folder, on the wire: looked for byte by byte."""

import os
import re
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from threading import Event, Thread

ETH_P_ALL = 3
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw")  # what it can write to
BLOCK = 16 << 20


def memory(pid: int) -> list[bytes]:
    """Return all of a process's own memory, read while it stands still; blocks overlap."""
    os.kill(pid, signal.SIGSTOP)
    try:
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
            regions = [(int(found[1], 16), int(found[2], 16)) for found in map(_MAP.match, maps) if found]
            return [block for begin, end in regions for block in _region(file.fileno(), begin, end)]
    finally:
        os.kill(pid, signal.SIGCONT)


def _region(handle: int, start: int, end: int) -> Iterator[bytes]:
    for place in range(start, end, BLOCK):
        try:
            yield os.pread(handle, min(BLOCK + 4096, end - place), place)
        except OSError:  # [vvar] and the like cannot be read
            return


def files(folder: Path) -> Iterator[bytes]:
    """Yield all files below a folder, those included that come and go."""
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                yield path.read_bytes()
        except FileNotFoundError:
            continue


class Sniffer:
    """Everything that crosses the loopback to or from a port.  Needs to be root."""

    def __init__(self, port: int) -> None:
        self._port, self._over, self.seen = port.to_bytes(2, "big"), Event(), bytearray()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.settimeout(0.2)
        self._thread = Thread(target=self._listen)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                packet = self._socket.recv(1 << 17)
            except TimeoutError:
                continue
            header = 40 if packet[0] >> 4 == 6 else 4 * (packet[0] & 15)
            if self._port in (packet[header : header + 2], packet[header + 2 : header + 4]):
                self.seen += packet[header + 4 * (packet[header + 12] >> 4) :]


def found_in(blocks: Iterable[bytes], needles: Mapping[str, bytes]) -> set[str]:
    """Return the names of the needles that are in some block."""
    left, found = dict(needles), set[str]()
    for block in blocks:
        found |= {name for name, needle in left.items() if needle in block}
        left = {name: needle for name, needle in left.items() if name not in found}
    return found


class Looker:
    """Copies memory and folder now and then, in a thread, until it is closed; searches them afterwards."""

    def __init__(self, pid: int, folder: Path, every: float, most: int) -> None:
        self._pid, self._folder, self._every, self._most = pid, folder, every, most
        self.memories: list[list[bytes]] = []
        self.folders: list[list[bytes]] = []
        self._over = Event()
        self._thread = Thread(target=self._look)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def in_memory(self, needles: Mapping[str, bytes]) -> set[str]:
        return found_in((block for taken in self.memories for block in taken), needles)

    def in_folder(self, needles: Mapping[str, bytes]) -> set[str]:
        return found_in((block for taken in self.folders for block in taken), needles)

    def _look(self) -> None:
        while not self._over.wait(self._every) and len(self.memories) < self._most:
            self.memories.append(memory(self._pid))
            self.folders.append(list(files(self._folder)))
