"""A message from its bytes, where more than one kind may come."""

from typing import TypeVar

from unisono.base.errors import BadMessage

from .certificates import AbandonCertificate, AgreeCertificate
from .encoding import Coded, kind_of
from .messages import Abandon, Agree, Answer, Closing, Complaint, Deal, Quorum, Share, Survivors, Upload
from .roster import Entry, Roster

Up = Entry | Share | Complaint | Upload | Agree | Answer | Abandon
Down = Roster | Deal | Survivors | Quorum | Closing
Certificate = AbandonCertificate | AgreeCertificate
C = TypeVar("C", bound=Coded)

_UP: tuple[type[Up], ...] = (Entry, Share, Complaint, Upload, Agree, Answer, Abandon)
_DOWN: tuple[type[Down], ...] = (Roster, Deal, Survivors, Quorum, Closing)
_CERTIFICATES: tuple[type[Certificate], ...] = (AbandonCertificate, AgreeCertificate)


def read_up(data: bytes) -> Up:
    """Return what a client said.  Raises BadMessage."""
    return _chosen(_UP, data).decode(data)


def read_down(data: bytes) -> Down:
    """Return what the coordinator said.  Raises BadMessage."""
    return _chosen(_DOWN, data).decode(data)


def read_certificate(data: bytes) -> Certificate:
    """Return what closes an attempt.  Raises BadMessage."""
    return _chosen(_CERTIFICATES, data).decode(data)


def _chosen(kinds: tuple[type[C], ...], data: bytes) -> type[C]:
    found = kind_of(data)
    for kind in kinds:
        if kind.kind == found:
            return kind
    raise BadMessage(f'a message of the kind "{found:.40}" has no place here')
