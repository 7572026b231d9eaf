"""An operator's certificate, renewed with a new key when two thirds of its life are over.

Any command may do it, so two may do it at once: a lock on the folder keeps their pairs of files from mixing.
It is never held while the network is waited for, and it is the folder itself: a read-only one needs no file.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from unisono.client.runtime.channel import Credentials
from unisono.client.runtime.files import swap_pair
from unisono.crypto import TlsKey
from unisono.identity import check_issued, check_key, renewal_due, request

Certify = Callable[[bytes], bytes]  # a certificate request in PEM to a certificate in PEM


def read(folder: Path, stem: str) -> Credentials:
    """Return the folder's credentials, a pair that belongs together."""
    with _locked(folder):
        return Credentials.read(folder, stem)


def renew(folder: Path, stem: str, now: float, certify: Certify) -> bool:
    """Renew the certificate if it is time; tell whether it was done."""
    mine = read(folder, stem)
    if not renewal_due(mine.certificate, now):
        return False
    key = TlsKey.generate()
    certificate = certify(request(key))
    check_key(key, certificate)
    check_issued(certificate, mine.ca, now)
    with _locked(folder):
        swap_pair(folder, stem, key.to_pem(), certificate)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
