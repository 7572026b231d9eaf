"""The states of a session.  Each is one thing being done, so a state is also the driver's next order.

    Greeting -> Polling -> Preparing -> Answering -> Polling
                        -> SendingModel ----------> Polling
                        -> Downloading -> Training -> Uploading -> Polling
                        -> Renewing -> Greeting

    and for each leg of secure aggregation (`legs`), leaving out what is done:

                Polling -> Replying -> Downloading -> Polling                              invitation
                        -> Downloading -> Replying -> Training -> Polling                  roster
                        -> Downloading -> Training -> Masking -> Sending -> Replying ->    deal
                        -> Replying -> Polling                               survivors, quorum, closing

    any -> BackingOff -> Greeting (or the same again, if the coordinator is only busy)
    any -> Leaving -> Left

No state survives a restart, and none has to: the coordinator repeats what it still wants done, and what was
done is in the vault.  That is why losing the connection always leads back to Greeting.
"""

from dataclasses import dataclass

from unisono.base.ids import Digest, RunId

from .orders import NOTHING_KNOWN, Attempt, Instruction, Known, Masked, Secure, Task, Update, UpdateKey, Work


@dataclass(frozen=True, slots=True)
class Greeting:
    """Saying hello.  `tries` counts failures since an instruction last arrived."""

    tries: int = 0
    renewed: bool = False


@dataclass(frozen=True, slots=True)
class Polling:
    """Asking what to do; `cursor` names the instruction that was handled last (0: none since the hello)."""

    cursor: int = 0
    tries: int = 0
    renewed: bool = False  # the certificate is new; until that is seen, do not renew again


@dataclass(frozen=True, slots=True)
class Renewing:
    """Getting a new certificate before doing what was asked."""

    cursor: int
    instruction: Instruction
    known: Known


@dataclass(frozen=True, slots=True)
class Preparing:
    """Making the model from the plan's seed; then announcing it, or sending it if `send`."""

    cursor: int
    run: RunId
    send: Digest | None = None


@dataclass(frozen=True, slots=True)
class Takes:
    """The answer to Consider: yes, with what was prepared."""

    run: RunId


@dataclass(frozen=True, slots=True)
class Declines:
    """The answer to Consider: no."""

    run: RunId
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Fails:
    """The answer to work that cannot be done.  `forget`: an update that the coordinator found to be bad."""

    attempt: Attempt
    code: str
    text: str
    forget: UpdateKey | None = None
    complaint: bytes = b""  # said instead, under secure aggregation


@dataclass(frozen=True, slots=True)
class Looks:
    """The answer to Consider: later, somebody here has to look at the plan."""

    run: RunId


Answer = Takes | Declines | Fails | Looks


@dataclass(frozen=True, slots=True)
class Answering:
    """Telling the coordinator."""

    cursor: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Downloading:
    """Fetching the model of a round."""

    cursor: int
    work: Task
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Training:
    """Evaluating and training in the child process."""

    cursor: int
    work: Task
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Uploading:
    """Sending a finished update."""

    cursor: int
    work: Work
    update: Update


@dataclass(frozen=True, slots=True)
class Replying:
    """Going one step on in the protocol of secure aggregation, and saying what follows."""

    cursor: int
    work: Secure
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Masking:
    """Putting the masks onto the stored vector."""

    cursor: int
    work: Secure
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class Sending:
    """Sending the masked vector."""

    cursor: int
    work: Secure
    masked: Masked
    known: Known = NOTHING_KNOWN


@dataclass(frozen=True, slots=True)
class SendingModel:
    """Sending the initial model."""

    cursor: int
    run: RunId
    model: Digest


@dataclass(frozen=True, slots=True)
class Leaving:
    """Saying goodbye."""


@dataclass(frozen=True, slots=True)
class Left:
    """Final.  `code` is "" after a goodbye, else that of the error that ended it."""

    code: str = ""
    reason: str = ""


Active = (
    Greeting
    | Polling
    | Renewing
    | Preparing
    | Answering
    | Downloading
    | Training
    | Uploading
    | Replying
    | Masking
    | Sending
    | SendingModel
    | Leaving
)


@dataclass(frozen=True, slots=True)
class BackingOff:
    """Waiting until `until` (ticks), then `then`."""

    until: float
    then: Active


State = Active | BackingOff | Left
