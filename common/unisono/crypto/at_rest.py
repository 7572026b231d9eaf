"""Files on our own disks (models, spool, a client's cache): a header, then sealed segments."""

from unisono.base.errors import Corrupt, Fault

from .entropy import Entropy
from .kdf import hkdf
from .segments import Opener, Sealer

LABEL = b"unisono/at-rest/1"  # HKDF info: file key from the master key and the salt
MAGIC = b"unisono1"
SALT = 32
HEADER = len(MAGIC) + SALT


class AtRest:
    """Seals and opens files under one master key of 32 bytes (a 0600 file or a secret).

    Every file gets a key of its own, HKDF(master, random salt), because `segments` allows one file a key;
    32 random bytes never repeat.  The header needs no tag: with another salt no segment opens.  `context`
    names the file (its run, round and role), so that files cannot be exchanged on the disk.
    """

    __slots__ = ("_master",)

    def __init__(self, master: bytes) -> None:
        if len(master) != 32:
            raise Fault(f"the master key has 32 bytes, not {len(master)}")
        self._master = master

    def new(self, entropy: Entropy, context: bytes) -> tuple[bytes, Sealer]:
        """Return the header to write first and the sealer of what follows."""
        salt = entropy(SALT)
        return MAGIC + salt, Sealer(hkdf(self._master, salt=salt, info=LABEL), context)

    def opener(self, header: bytes, context: bytes) -> Opener:
        """Return the opener of the file that begins with `header`.  Raises Corrupt."""
        if len(header) != HEADER or not header.startswith(MAGIC):
            raise Corrupt(f"not a file sealed at rest: its first {HEADER} bytes are no header of one")
        return Opener(hkdf(self._master, salt=header[len(MAGIC) :], info=LABEL), context)
