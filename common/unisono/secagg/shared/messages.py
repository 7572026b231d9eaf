"""What travels, besides `roster.Entry` and `roster.Roster` (leg 0).

A sender is known by its TLS identity and a context by the call; neither is repeated here, except where the
receiver has to tell which of the two is wrong.
"""

from dataclasses import dataclass, field

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest, is_digest
from unisono.crypto.keys import KEM_CIPHERTEXT
from unisono.crypto.segments import TAG
from unisono.crypto.shamir import SHARE

from .encoding import Coded, exactly, rising
from .roster import SIGNATURE
from .statements import Members, Tally

BOX = 2 * SHARE + TAG
Signatures = tuple[tuple[int, bytes], ...]  # (number of the signer, signature), rising


@dataclass(frozen=True, slots=True)
class Parcel(Coded):
    """From one client to one other: two encapsulations and the two shares, encrypted."""

    share_kem: bytes  # to ec: its secret goes into the key of `box`
    mask_kem: bytes  # to es: its secret goes into the pair seed
    box: bytes

    def __post_init__(self) -> None:
        exactly("an encapsulation", self.share_kem, KEM_CIPHERTEXT)
        exactly("an encapsulation", self.mask_kem, KEM_CIPHERTEXT)
        exactly("a sealed pair of shares", self.box, BOX)


@dataclass(frozen=True, slots=True)
class Share(Coded, kind="share"):
    """Leg 1, up: one parcel for every other client of the roster, in their order.

    Model, spec and roster are what ctx was made of: a client that was shown another one learns which differs.
    """

    model: Digest
    spec: bytes
    root: bytes
    parcels: tuple[Parcel, ...]
    commitment: bytes  # to the self mask's secret
    vault: bytes  # what rebuilds the pair masks, opened only if the client drops out
    signature: bytes

    def __post_init__(self) -> None:
        if not is_digest(self.model):
            raise BadMessage("a share message names its model by no digest")
        exactly("a spec's digest", self.spec, 32)
        exactly("a roster's root", self.root, 32)
        exactly("a commitment", self.commitment, 32)
        exactly("a signature", self.signature, SIGNATURE)


@dataclass(frozen=True, slots=True)
class Dealt(Coded):
    """One client's parcel for the receiver, with the statement that it is on the same context."""

    sender: int
    parcel: Parcel
    signature: bytes

    def __post_init__(self) -> None:
        exactly("a signature", self.signature, SIGNATURE)


@dataclass(frozen=True, slots=True)
class Deal(Coded, kind="deal"):
    """Leg 1, down: who shared (U1, frozen) and what each other member of U1 sent to this client."""

    u1: Members
    parcels: tuple[Dealt, ...]

    def __post_init__(self) -> None:
        rising("U1", self.u1)
        rising("parcels", tuple(dealt.sender for dealt in self.parcels))


@dataclass(frozen=True, slots=True)
class Complaint(Coded, kind="complaint"):
    """Leg 1: the parcel of this client does not open, so the sender of the complaint sits the attempt out."""

    about: int


@dataclass(frozen=True, slots=True)
class Upload(Coded, kind="upload"):
    """Leg 2, the last message of it: what was sent, signed.  From here on it counts as a release."""

    length: int
    digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        exactly("a digest", self.digest, 32)
        exactly("a signature", self.signature, SIGNATURE)


@dataclass(frozen=True, slots=True)
class Survivor(Coded):
    """A member of U2, with its upload statement."""

    number: int
    digest: bytes
    signature: bytes

    def __post_init__(self) -> None:
        exactly("a digest", self.digest, 32)
        exactly("a signature", self.signature, SIGNATURE)


@dataclass(frozen=True)
class Survivors(Coded, kind="survivors", kept=True):
    """Leg 3, down: U2, frozen, and every member's upload statement.

    Order and repeats are for the client's check (row 21), which names them.
    """

    members: tuple[Survivor, ...]

    @property
    def tally(self) -> Tally:
        return tuple((member.number, member.digest) for member in self.members)


@dataclass(frozen=True, slots=True)
class Agree(Coded, kind="agree"):
    """Leg 3, up."""

    signature: bytes

    def __post_init__(self) -> None:
        exactly("a signature", self.signature, SIGNATURE)


@dataclass(frozen=True)
class Quorum(Coded, kind="quorum", kept=True):
    """Leg 4, down: the agree signatures, and for whom which kind of share is asked.

    The lists decide nothing: a client derives the kinds from the set that it signed, and compares.
    """

    signatures: Signatures
    survivors: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Opened(Coded):
    """A share of one client's secret."""

    number: int
    share: bytes = field(repr=False)

    def __post_init__(self) -> None:
        exactly("a share", self.share, SHARE)


@dataclass(frozen=True, slots=True)
class Answer(Coded, kind="answer"):
    """Leg 4, up: shares of self-mask secrets for survivors, of vault keys for those who dropped out."""

    selves: tuple[Opened, ...]
    vaults: tuple[Opened, ...]


@dataclass(frozen=True, slots=True)
class Closing(Coded, kind="closing"):
    """Down: please sign that you will never open this attempt.  The model lets the client compute ctx."""

    model: Digest

    def __post_init__(self) -> None:
        if not is_digest(self.model):
            raise BadMessage("a request to close an attempt names its model by no digest")


@dataclass(frozen=True, slots=True)
class Abandon(Coded, kind="abandon"):
    """Up: the answer to `Closing`."""

    signature: bytes

    def __post_init__(self) -> None:
        exactly("a signature", self.signature, SIGNATURE)
