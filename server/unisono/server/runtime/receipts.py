"""Receipts for clients: what is signed of each published round, and where a client's update is in it.

They ride in answers that are given anyway: a client names the rounds that it has sent to and has no receipt
of, and gets it with its next instruction.  Nothing is remembered of who has got what: rows and an Ed25519 key
give the same receipt again, so none can be lost.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from unisono.audit import Counted, Published, Receipt, Tree, tree_of
from unisono.base.errors import Fault
from unisono.base.ids import ClientName, Digest, RunId
from unisono.crypto import SigningKey
from unisono.server.store import Sheet, Store

from .workers import Workers

log = structlog.get_logger("unisono.receipts")
MOST = 32  # rounds that are answered at a time
MOST_MADE = 8  # of them that have to be read and signed; the others are asked for again
_KEPT = 4  # rounds whose tree is kept: all clients of a round ask for it at once
LEFT_OUT = "it is not among the updates that count in its round"
NEVER = "its round was never published, or by a version that signed no receipts"

Round = tuple[RunId, int]


@dataclass(frozen=True, slots=True)
class Nothing:
    """There is no receipt for a round and there will be none."""

    run: RunId
    round: int
    reason: str


Told = Receipt | Nothing


@dataclass(frozen=True, slots=True)
class Signed:
    """A published round, signed."""

    published: Published
    signature: str
    tree: Tree
    places: Mapping[ClientName, tuple[int, Digest]]

    def receipt(self, client: ClientName) -> Receipt | None:
        """Return a client's receipt; None if no update of it counts."""
        place = self.places.get(client)
        if place is None:
            return None
        index, sha256 = place
        path = tuple(Digest(step.hex()) for step in self.tree.path(index))
        return Receipt(self.published, Counted(client, sha256, index, path), self.signature)


class Receipts:
    """Makes them.  Of the event loop's thread, but for `_read`."""

    def __init__(self, ca: Digest, key: SigningKey, certificate: bytes, store: Store) -> None:
        self.certificate = certificate
        self._ca, self._key, self._store = ca, key, store
        self._signed: OrderedDict[Round, Signed] = OrderedDict()
        self._reading = asyncio.Lock()

    async def answer(self, client: ClientName, due: Collection[Round], workers: Workers) -> tuple[Told, ...]:
        """Return what can be said of rounds that `client` asks about; of one that goes on, nothing."""
        told, missing = list[Told](), list[Round]()
        async with self._reading:  # the first who asks reads, the others find it
            for at in due:
                signed = self._signed.get(at)
                if signed is None:
                    missing.append(at)
                else:
                    told.append(signed.receipt(client) or Nothing(*at, LEFT_OUT))
            if missing:
                found = await workers.file(self._read, missing)
                told += [answer for at, one in found if (answer := self._of(client, at, one)) is not None]
        return tuple(told)

    def _read(self, missing: list[Round]) -> list[tuple[Round, Signed | bool]]:
        """Read rounds and sign them; of one without a row, tell whether it is over.

        A tree over thousands takes a tenth of a second: not the event loop's, nor that of the database's one
        thread.  A row that is damaged is nobody's receipt, and keeps nobody from the answer to its question.
        """
        found, made = list[tuple[Round, Signed | bool]](), 0
        for at in missing:
            if made == MOST_MADE:
                break
            try:
                row = self._store.published([at])[at]
            except Fault as error:
                log.error("no_receipt", run=at[0], round=at[1], error=str(error))
                continue
            made += isinstance(row, Sheet)
            found.append((at, self._sign(row) if isinstance(row, Sheet) else row))
        return found

    def _of(self, client: ClientName, at: Round, found: Signed | bool) -> Told | None:
        """Return what follows from a round's row, or, if it has none, from whether it is over."""
        if isinstance(found, Signed):
            return self._keep(at, found).receipt(client) or Nothing(*at, LEFT_OUT)
        return Nothing(*at, NEVER) if found else None

    def _keep(self, at: Round, signed: Signed) -> Signed:
        self._signed[at] = signed
        while len(self._signed) > _KEPT:
            self._signed.popitem(last=False)
        return signed

    def _sign(self, sheet: Sheet) -> Signed:
        count = len(sheet.updates)
        published = Published(
            ca=self._ca,
            run=sheet.run,
            round=sheet.round,
            attempt=sheet.attempt,
            what=sheet.what,
            count=count,
            root=sheet.root,
            model=sheet.model,
            audit=sheet.audit,
            wall=sheet.wall,
        )
        places = {client: (index, sha256) for index, (client, sha256) in enumerate(sheet.updates)}
        signature = published.statement().sign(self._key).hex()
        return Signed(published, signature, tree_of(sheet.updates), places)
