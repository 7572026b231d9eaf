"""What must hold in the folders of a federation whose processes died and came back."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from crash_world import World
from harness import CLIENTS

from unisono.base.clock import ManualClock
from unisono.base.ids import Digest
from unisono.client.runtime.cache import Cache
from unisono.client.runtime.vault import Vault
from unisono.crypto import AtRest, sha256_hex, system_entropy
from unisono.server.blobs import LocalDir
from unisono.server.store import open_store

ONCE = ("released", "upload_signed", "revealed", "abandoned")  # lines of a site's log, an attempt


def check_folders(world: World) -> None:
    """Check all folders; nothing of the world may run."""
    check_coordinator(world.folder("coordinator"))
    for name in CLIENTS:
        check_site(world.folder(name))


def check_coordinator(folder: Path, *, idle: bool = True) -> None:
    """Database whole, audit chain unbroken, every file of a run there and whole, nothing left over."""
    whole(folder / "state.db")
    at_rest = AtRest((folder / "at-rest.key").read_bytes())
    with closing(open_store(folder, at_rest)) as store:
        store.verify_audit()
        needed = store.owned()
        assert not (idle and store.active()), "an ended run has something left to do"
    blobs = folder / "blobs"
    assert not list(blobs.glob("*.part")), "a part of a blob was left"
    kept = LocalDir(blobs, at_rest, system_entropy)
    assert needed <= kept.digests(), "files are missing"
    for digest in needed:
        with kept.open(digest) as reader:
            assert reader.digest() == digest
    assert not (idle and [p for p in (folder / "spool").rglob("*") if p.is_file()]), "uploads were left"


def check_site(folder: Path) -> None:
    """Database whole, log unbroken, nothing that left twice in another form, nothing left over."""
    whole(folder / "state.db")
    with closing(Vault(folder, ManualClock())) as vault:
        lines = vault.audit()
        known = {Digest(digest): size for digest, size in vault.rows("SELECT sha256, bytes FROM models", ())}
    said = Counter(
        (line.kind, line.detail["run"], line.detail["round"], line.detail.get("attempt", 0))
        for line in lines
        if line.kind in ONCE
    )
    assert not (twice := [what for what, times in said.items() if times > 1]), f"said twice: {twice}"
    ended = [key for key in said if key[0] == "revealed" and ("abandoned", *key[1:]) in said]
    assert not ended, f"opened what it promised never to open: {ended}"
    cache = Cache(folder / "cache", (folder / "vault.key").read_bytes())
    for digest, size in known.items():
        if cache.has(digest, size):
            assert sha256_hex(b"".join(cache.read(digest, size))) == digest


def whole(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
