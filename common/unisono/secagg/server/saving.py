"""A stage from its bytes: the whole book at once, where a ledger of single records is not wanted."""

from unisono.base.errors import BadMessage
from unisono.secagg.shared.encoding import kind_of

from .abandon import Closing
from .advertise import Advertising
from .agree import Agreeing
from .reveal import Revealing
from .share import Sharing
from .stage import Stage
from .upload import Uploading

STAGES: tuple[type[Stage], ...] = (Advertising, Sharing, Uploading, Agreeing, Revealing, Closing)


def decode_stage(data: bytes) -> Stage:
    """Return the stage that was saved.  Raises BadMessage."""
    for stage in STAGES:
        if stage.kind == kind_of(data):
            return stage.decode(data)
    raise BadMessage(f'"{kind_of(data):.40}" is no stage of a coordinator')
