"""Protection `sealed`: an upload that only the coordinator's certified key opens, on the wire and on disk.

X25519 (RFC 7748) and HKDF in the manner of HPKE's base mode (RFC 9180, section 4.1): the sender makes a key
for one upload and forgets it, so what it sent stays closed to whoever takes over the sender later.  It does
not say who sent it: mutual TLS does.
"""

from unisono.base.errors import Corrupt

from .entropy import Entropy
from .kdf import encode, hkdf
from .keys import SealingKey
from .segments import Opener, Sealer

LABEL = b"unisono/sealed/1"  # HKDF info: upload key from one X25519 agreement
MAGIC = b"unisono2"
ENVELOPE = len(MAGIC) + 32  # and the ephemeral public key


def seal_to(public: bytes, context: bytes, entropy: Entropy) -> tuple[bytes, Sealer]:
    """Return the envelope, to send first, and the sealer.  Raises Corrupt if `public` is none."""
    ephemeral = SealingKey.generate(entropy)
    shared = ephemeral.agree(public)
    return MAGIC + ephemeral.public, Sealer(_key(shared, ephemeral.public, public, context), context)


def open_from(private: SealingKey, header: bytes, context: bytes) -> Opener:
    """Return the opener of the upload that begins with the envelope `header`.  Raises Corrupt."""
    if len(header) != ENVELOPE or not header.startswith(MAGIC):
        raise Corrupt(f"not a sealed upload: its first {ENVELOPE} bytes are no envelope")
    ephemeral = header[len(MAGIC) :]
    return Opener(_key(private.agree(ephemeral), ephemeral, private.public, context), context)


def _key(shared: bytes, ephemeral: bytes, public: bytes, context: bytes) -> bytes:
    """Bind the key to both public keys (X25519 alone does not: RFC 7748, section 7) and to the context."""
    return hkdf(shared, salt=encode(ephemeral, public), info=encode(LABEL, context))
