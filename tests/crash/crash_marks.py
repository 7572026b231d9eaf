"""Writes into the shim's trace what the product says is durable, and what leaves because of it.

Wrapped around the real methods, in the process that is traced; `crash_trace` holds one against the other.

    durable PATH             the product says that this file is on the disk, bytes and name
    kept FACT                a fact is in a transaction that has returned as durable
    leaves FACT              something leaves the process that is only true because of FACT
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from unisono.client.runtime import files
from unisono.client.runtime.attempts import Attempts
from unisono.client.runtime.link import Link
from unisono.client.runtime.secure import Protection
from unisono.client.runtime.vault import Vault
from unisono.secagg.shared.reading import read_up
from unisono.server.blobs import Blob, Part
from unisono.server.rounds import Joined, ModelReceived, Said, Uploaded
from unisono.server.runtime.clients import Clients
from unisono.server.runtime.operators import Operators
from unisono.server.runtime.uploads import Key, Uploads
from unisono.server.store import Store
from unisono.server.store.database import Database

Mark = Callable[[str], None]


def after(owner: type, name: str, tell: Callable[..., None]) -> None:
    """Call `tell(result, *args)` whenever a method has returned."""
    real = getattr(owner, name)

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        tell(result, *args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def after_async(owner: type, name: str, tell: Callable[..., None]) -> None:
    """The same for a coroutine."""
    real = getattr(owner, name)

    @wraps(real)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = await real(*args, **kwargs)
        tell(result, *args, **kwargs)
        return result

    setattr(owner, name, wrapped)


def before(owner: type, name: str, tell: Callable[..., None]) -> None:
    """Call `tell(*args)` whenever a method is about to run."""
    real = getattr(owner, name)

    @wraps(real)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        tell(*args, **kwargs)
        return real(*args, **kwargs)

    setattr(owner, name, wrapped)


def mark_everything(mark: Mark) -> None:
    """Wrap both sides; a process is one of them."""
    mark_coordinator(mark)
    mark_site(mark)
    mark_words(mark)


def mark_coordinator(mark: Mark) -> None:  # noqa: C901 - a list

    real = Database.write

    @contextmanager
    def write(self: Database) -> Iterator[Any]:
        with real(self) as connection:
            yield connection
        mark(f"durable {self.path}-wal")

    setattr(Database, "write", write)  # noqa: B010 - mypy sees a method

    def saved(result: object, store: Store, run: str, change: Any) -> None:
        for event in change.events:
            match event:
                case Uploaded() | Joined() | ModelReceived():
                    mark(f"kept {type(event).__name__} {run} {event.client}")
                case Said():
                    mark(f"kept Said {run} {event.client} {event.attempt} {_name(event.message)}")

    def acknowledged(result: Any, uploads: Uploads, client: str, key: Key, *rest: object) -> None:
        if not result.complete:
            return
        desk: Any = uploads._desk
        if key.purpose == "model":
            mark(f"durable {uploads._blobs.root / key.digest}")
            if key.run:
                mark(f"leaves ModelReceived {key.run} {client}")
            return
        stage = desk._hall.runs.get(key.run)
        mark(f"durable {uploads._spool.path(key.run, key.round, key.attempt, client, key.digest)}")  # type: ignore[arg-type]
        if stage is not None and stage.plan.protection.mode == "sealed":
            mark(f"leaves Uploaded {key.run} {client}")

    def said(result: object, clients: Clients, client: str, at: tuple[str, int, int], message: bytes) -> None:

        mark(f"leaves Said {at[0]} {client} {at[2]} {_name(read_up(message))}")

    after(Store, "save", saved)
    after(Store, "create", lambda run, *_: mark(f"kept run {run}"))
    after(Store, "add_token", lambda _, store, serial, *rest: mark(f"kept token of {rest[0]}"))
    after(Part, "finish", lambda _, part: mark(f"durable {part._final}"))
    after(Blob, "commit", lambda digest, blob, *_: mark(f"durable {blob._root / digest}"))
    after_async(Uploads, "begin", acknowledged)
    after_async(Uploads, "receive", acknowledged)
    after_async(Clients, "joined", lambda _, clients, client, run, *r: mark(f"leaves Joined {run} {client}"))
    after_async(Clients, "said", said)
    after_async(Operators, "start_run", lambda run, *_: mark(f"leaves run {run}"))
    after_async(Operators, "create_token", lambda _, operators, name, *r: mark(f"leaves token of {name}"))


def mark_site(mark: Mark) -> None:

    real = Vault.transaction

    @contextmanager
    def transaction(self: Vault, *, durable: bool = True) -> Iterator[Any]:
        with real(self, durable=durable) as database:
            changes = database.total_changes
            yield database
        if durable and database.total_changes > changes:  # one that changed nothing syncs nothing
            mark(f"durable {self.folder / 'state.db-wal'}")

    setattr(Vault, "transaction", transaction)  # noqa: B010

    def saved(result: object, attempts: Attempts, at: Any, data: bytes, also: object, durable: bool) -> None:
        if durable:
            mark(f"kept state {_short(data)}")

    def moved(result: Any, attempts: Attempts, at: Any, move: object, *r: object, **more: object) -> None:
        mark(f"because {_short(result[1])} {_short(attempts._written[at])}")

    def sends(link: Link, parcel: Any, *rest: object) -> None:
        at = parcel.attempt
        if parcel.purpose == "model":
            mark(f"leaves model {at.run} {parcel.sha256}")
        else:
            mark(f"sends {at.run} {at.round} {at.attempt} {parcel.sha256}")

    def committed(result: object, protection: Any, order: Any, vector: object) -> None:
        at = order.attempt
        data = protection._store._written[at]
        mark(f"vector {at.run} {at.round} {at.attempt} {_short(data)}")

    after(Attempts, "_save", saved)
    after(Attempts, "apply", moved)
    after(Protection, "_committed", committed)
    after(Vault, "release", lambda _, vault, update, *r: mark(f"kept release {update.sha256}"))
    after(Vault, "accept", lambda _, vault, agreed, *r: mark(f"kept agreement {agreed.run}"))
    after(Vault, "decline", lambda _, vault, run, *r: mark(f"kept refusal {run}"))
    after(Vault, "model_leaves", lambda _, vault, run, model, *r: mark(f"kept model {run} {model}"))
    after(files, "write_private", lambda _, path, data: mark(f"durable {path}"))  # type: ignore[arg-type]
    before(Link, "begin", sends)
    before(Link, "upload", sends)
    before(Link, "joined", lambda link, run, *r: mark(f"leaves agreement {run}"))
    before(Link, "declined", lambda link, answer: mark(f"leaves refusal {answer.run}"))


def mark_words(mark: Mark) -> None:

    def says(link: Link, at: Any, message: bytes) -> None:
        mark(f"says {_short(message)} {message_kind(message)}")

    def asks(link: Link, cursor: int, wait: float, due: object = (), said: Any = None) -> None:
        if said is not None:
            says(link, *said)

    before(Link, "said", says)
    before(Link, "poll", asks)


def message_kind(message: bytes) -> str:

    return _name(read_up(message))


def _name(message: object) -> str:
    return type(message).__name__


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24] if data else "-"
