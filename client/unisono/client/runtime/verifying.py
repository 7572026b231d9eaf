"""Checks receipts with nothing but a site's folder: its CA certificate, its log, and the receipts."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from unisono.audit import Log, Receipt
from unisono.audit.logs import open_read_only
from unisono.base.errors import BadConfiguration, BadMessage
from unisono.base.ids import Digest
from unisono.identity import receipts_public, spki_sha256

from .receipts import Sent

Left = Mapping[str, set[tuple[str, int]]]  # digest of what left: (run, round), as the audit log says


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a site knows without asking anybody."""

    name: str
    ca_pem: bytes
    left: Left
    lines: int
    head: Digest

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read it from a folder.  Raises Corrupt if the audit log is not whole."""
        with closing(open_read_only(folder / "state.db")) as db:
            name = _name(db, folder)
        left: dict[str, set[tuple[str, int]]] = {}
        lines, head = 0, Digest("0" * 64)
        for row in Log("client", folder / "state.db").rows():
            lines, head = row.seq, row.hash
            if row.what in ("released", "upload_signed") and "sha256" in row.detail:
                at = (row.run, int(str(row.detail["round"])))
                left.setdefault(str(row.detail["sha256"]), set()).add(at)
        return cls(name, (folder / "ca.pem").read_bytes(), left, lines, head)

    def check(self, sent: Sent) -> None:
        """Raise an Error that says what does not hold; what has no receipt has nothing to hold."""
        if (sent.run, sent.round) not in self.left.get(sent.sha256, set()):
            raise BadMessage(f"the audit log knows of no update {sent.sha256} that was sent in it")
        if sent.state == "refused":
            raise BadMessage(f"refused when it came: {sent.reason}")
        if sent.state != "held":
            return
        receipt = Receipt.from_json(sent.receipt)
        published, counted = receipt.published, receipt.counted
        if (published.run, published.round, counted.sha256) != (sent.run, sent.round, sent.sha256):
            raise BadMessage(f"it is for round {published.round} of {published.run}, update {counted.sha256}")
        if counted.client != self.name:
            raise BadMessage(f"it is for {counted.client}")
        if published.ca != spki_sha256(self.ca_pem):
            raise BadMessage("it is of another federation")
        # the key had to be certified when it signed; the receipt holds for good
        receipt.check(receipts_public(sent.certificate.encode(), self.ca_pem, published.wall))


def _name(db: sqlite3.Connection, folder: Path) -> str:
    row = db.execute("SELECT name FROM identity").fetchone()
    if row is None:
        raise BadConfiguration(f"{folder} has not joined a federation")
    return str(row[0])
