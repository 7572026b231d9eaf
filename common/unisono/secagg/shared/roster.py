"""Who takes part, with which keys, in what: the names that every key and signature is bound to."""

from dataclasses import dataclass
from functools import cached_property

from unisono.base.errors import BadMessage
from unisono.base.ids import ClientName, Digest, RunId, is_digest, is_name
from unisono.crypto.digest import sha256, sha256_hex
from unisono.crypto.kdf import encode
from unisono.crypto.keys import KEM_PUBLIC

from .encoding import Coded, exactly
from .spec import Spec

# DER of SubjectPublicKeyInfo for Ed25519 (RFC 8410, section 4) up to the 32 bytes of the key: the pin is the
# fingerprint of the key, so that a renewed certificate changes nothing.
_SPKI = bytes.fromhex("302a300506032b6570032100")
SIGNATURE = 64
_FIELD = 2**255 - 19  # a larger number, or the ignored top bit, would be another spelling of somebody's key


def fingerprint(identity: bytes) -> Digest:
    """Return SHA-256 of an Ed25519 key's SubjectPublicKeyInfo, as `identity.Signer.fingerprint`."""
    return sha256_hex(_SPKI + identity)


@dataclass(frozen=True, slots=True)
class Pin(Coded):
    """One line of a run's manifest: a site and the fingerprint of the key that signs for it."""

    name: ClientName
    key: Digest

    def __post_init__(self) -> None:
        if not is_name(self.name) or not is_digest(self.key):
            raise BadMessage(f'a pin of "{self.name:.80}" is not a name and a fingerprint')


def manifest_digest(pins: tuple[Pin, ...]) -> Digest:
    """Return what people compare by phone and every context contains; the order of `pins` is no matter."""
    return sha256_hex(encode("manifest", *(encode(pin.name, pin.key) for pin in sorted(pins, key=_name))))


def _name(pin: Pin) -> str:
    return pin.name


@dataclass(frozen=True, slots=True)
class Attempt(Coded):
    """What an attempt is called.  Known before the model is, so keys may be advertised a round ahead."""

    run: RunId
    round: int
    attempt: int
    plan: Digest
    manifest: Digest

    def __post_init__(self) -> None:
        if not is_digest(self.plan) or not is_digest(self.manifest):
            raise BadMessage("an attempt's plan or manifest is not named by a digest")

    @property
    def ctx0(self) -> bytes:
        return sha256(encode("ctx0", self.run, self.round, self.attempt, self.plan, self.manifest))


@dataclass(frozen=True)
class Entry(Coded, kind="advertise", kept=True):
    """Leg 0: a client's keys for this attempt.

    Two pairs, because the vault of a dropped client opens: `c` and `ec` carry shares and are never opened,
    `s` and `es` make masks and are in the vault.
    """

    name: ClientName
    identity: bytes  # Ed25519
    ctx0: bytes  # what the keys claim to be for: those of another attempt are told from forged ones
    c: bytes  # X25519, for shares
    ec: bytes  # ML-KEM-768, for shares
    s: bytes  # X25519, for masks
    es: bytes  # ML-KEM-768, for masks
    signature: bytes

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise BadMessage(f'"{self.name:.80}" cannot be a client\'s name')
        for what, raw, length in (
            ("an identity", self.identity, 32),
            ("ctx0", self.ctx0, 32),
            ("key c", self.c, 32),
            ("key ec", self.ec, KEM_PUBLIC),
            ("key s", self.s, 32),
            ("key es", self.es, KEM_PUBLIC),
            ("a signature", self.signature, SIGNATURE),
        ):
            exactly(f"advertisement of {self.name}: {what}", raw, length)
        if any(int.from_bytes(key, "little") >= _FIELD for key in (self.c, self.s)):
            raise BadMessage(f"advertisement of {self.name}: an X25519 key is not in its canonical form")

    @property
    def keys(self) -> tuple[bytes, ...]:
        """Every public key of the entry: no two in a roster may be equal."""
        return self.identity, self.c, self.ec, self.s, self.es


@dataclass(frozen=True)
class Roster(Coded, kind="roster", kept=True):
    """Answer to leg 0: all entries, sorted by name, and the spec.

    A client's number is its place here, from 1; it is the client's Shamir x and its id in all that follows.
    """

    entries: tuple[Entry, ...]
    spec: Spec

    @cached_property
    def root(self) -> bytes:
        return sha256(encode(*(entry.encode() for entry in self.entries)))

    @cached_property
    def numbers(self) -> dict[ClientName, int]:
        return {entry.name: number for number, entry in enumerate(self.entries, 1)}

    def entry(self, number: int) -> Entry:
        return self.entries[number - 1]

    def name(self, number: int) -> ClientName:
        return self.entry(number).name

    def identity(self, number: int) -> bytes | None:
        """Return the key that signs for this client; None if there is no such number."""
        return self.entry(number).identity if 1 <= number <= len(self.entries) else None

    def others(self, number: int) -> tuple[int, ...]:
        """Return every other client's number."""
        return tuple(other for other in range(1, len(self.entries) + 1) if other != number)

    def names(self, numbers: tuple[int, ...]) -> tuple[ClientName, ...]:
        return tuple(self.name(number) for number in numbers)


def context(attempt: Attempt, model: Digest, roster: Roster) -> bytes:
    """Return ctx, the salt of every key and a part of every statement from leg 1 on."""
    return sha256(encode("ctx", attempt.ctx0, bytes.fromhex(model), roster.spec.digest, roster.root))
