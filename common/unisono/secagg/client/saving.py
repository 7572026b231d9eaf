"""A state from its bytes, after a restart."""

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.secagg.shared.encoding import kind_of

from .abandon import Abandoned
from .advertise import Advertised
from .agree import Uploaded
from .framed import Framed
from .releases import Release
from .reveal import Agreed, Revealed
from .share import Rostered, Shared
from .state import State
from .upload import Committed, Ready

STATES: tuple[type[State], ...] = (
    Advertised,
    Rostered,
    Shared,
    Ready,
    Committed,
    Uploaded,
    Agreed,
    Revealed,
    Abandoned,
)


def decode_state(data: bytes) -> State:
    """Return the state that was saved.  Raises BadMessage."""
    for state in STATES:
        if state.kind == kind_of(data):
            return state.decode(data)
    raise BadMessage(f'"{kind_of(data):.40}" is no state of a client')


def model_of(state: State) -> Digest | None:
    """Return which model an attempt starts from; every message of it has to be about that one."""
    match state:
        case Advertised() | Rostered():
            return state.setup.model
        case Framed():
            return state.frame.model
        case Abandoned():
            return Digest(state.model)
    return None


def release_of(state: State) -> Release | None:
    """Return what this attempt counts as, if its upload signature may have left; kept until the run ends."""
    match state:
        case Framed() | Abandoned():
            return state.release
    return None
