"""The key that signs receipts: Ed25519, certified by the federation's CA, for nothing else.

The server certificate could not do it: its key is new with every start and leaves no trace.  Who holds a
receipt must be able to check it after years, with nothing but the CA's certificate.
"""

from unisono.crypto import SigningKey, system_entropy
from unisono.identity import Authority, spki_sha256
from unisono.server.folder import Folder, read_private, write_private
from unisono.server.store import Store

_META = "receipts_key_sha256"


def receipts_key(folder: Folder, authority: Authority, now: float) -> tuple[SigningKey, bytes]:
    """Return the key and its certificate, made if they are missing: in a folder of an earlier version.

    A crash between the two files leaves a key without a certificate, which is made at the next start.
    """
    if not folder.receipts_key.exists():
        folder.receipts.unlink(missing_ok=True)
        write_private(folder.receipts_key, SigningKey.generate(system_entropy).to_bytes())
    key = SigningKey.from_bytes(read_private(folder.receipts_key, "the key for receipts"))
    if not folder.receipts.exists():
        write_private(folder.receipts, authority.issue_receipts(key.public, now))
    return key, folder.receipts.read_bytes()


def audit_key(store: Store, certificate: bytes, now: float) -> None:
    """Write the key's fingerprint into the audit log, once, and again if it is another one day."""
    found = spki_sha256(certificate)
    if store.get_meta(_META) != found:
        store.note("receipts_key", {"sha256": found}, now, key=_META, value=found)
