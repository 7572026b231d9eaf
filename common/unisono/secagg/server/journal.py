"""A stage from the rows of the ledger, after a restart: the same verbs in the same order."""

from collections.abc import Iterable

from unisono.base.errors import BadMessage
from unisono.base.ids import Digest
from unisono.secagg.shared.messages import Abandon, Agree, Answer, Complaint, Share, Upload
from unisono.secagg.shared.roster import Entry
from unisono.secagg.shared.spec import Spec

from .advertise import begin
from .book import Setup
from .stage import Record, Stage, Step


def restore(setup: Setup, records: Iterable[bytes]) -> Stage:
    """Play the records again.  What was refused then is no record; a record refused now raises its error."""
    stage: Stage = begin(setup)
    for data in records:
        stage = _play(stage, Record.decode(data)).after(_discard)
    return stage


def _discard(record: bytes) -> None:
    """Take a record that is in the ledger already."""


def _play(stage: Stage, record: Record) -> Step:
    if record.verb in _DECISIONS:
        return _decide(stage, record)
    client, message = record.client, record.message
    match record.verb:
        case "advertise":
            return stage.advertise(client, Entry.decode(message))
        case "share":
            return stage.share(client, Share.decode(message))
        case "complain":
            return stage.complain(client, Complaint.decode(message))
        case "upload":
            upload = Upload.decode(message)
            return stage.upload(client, upload, upload.length, upload.digest)
        case "agree":
            return stage.agree(client, Agree.decode(message))
        case "reveal":
            return stage.reveal(client, Answer.decode(message))
        case "abandon":
            return stage.abandon(client, Abandon.decode(message))
    raise BadMessage(f'the ledger holds "{record.verb:.40}": was it written by a newer version?')


_DECISIONS = ("freeze_roster", "freeze_shares", "freeze_survivors", "certify", "close", "leave_out")


def _decide(stage: Stage, record: Record) -> Step:
    match record.verb:
        case "freeze_roster":
            return stage.freeze_roster(Spec.decode(record.message), Digest(record.detail))
        case "freeze_shares":
            return stage.freeze_shares()
        case "freeze_survivors":
            return stage.freeze_survivors()
        case "certify":
            return stage.certify()
        case "leave_out":
            return stage.leave_out(record.client, record.detail)
        case _:
            return stage.close()
