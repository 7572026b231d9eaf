"""Plans that somebody at the site has to look at: small files, because two processes write them.

The running client holds the folder's lock and its database, and whoever looks uses another command, at any
time, also while no client runs.  So `plans/DIGEST.json` is written by the client alone (what was asked),
`plans/DIGEST.answer` by the commands alone (what was said); each is whole or absent, and mode 0600.

An answer is about a plan, by its digest, like the list `plans` in policy.toml: it holds for every run of it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from unisono.base.errors import BadConfiguration, NotFound
from unisono.base.ids import is_digest
from unisono.crypto import sha256_hex

from .files import private_folder, write_private

FOLDER = "plans"
MOST = 200  # records without an answer: a coordinator may ask for any number of plans
SHORTEST = 8  # digits of a digest that name a plan
Said = Literal["approved", "rejected"]
M = TypeVar("M", bound="_File")


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Pinned(_File):
    """The roster that a run was pinned to: who takes part, and with which key."""

    run: str
    digest: str
    sites: tuple[tuple[str, str], ...]  # name, SHA-256 of the signing key's SPKI
    in_policy: bool = False  # policy.toml names this digest


class Question(_File):
    """What was asked, and of which run last."""

    digest: str
    plan: str  # canonical
    run: str
    cohort: int  # clients that the run will have, as far as known
    asked: float  # wall
    waits: bool  # for an answer of somebody here
    declined: str = ""  # why this site said no by itself
    pinned: Pinned | None = None


class Answer(_File):
    """What somebody here said, and when; `roster` is a digest that they compared with the other sites."""

    said: Said
    reason: str = ""
    roster: str = ""
    wall: float


@dataclass(frozen=True, slots=True)
class Record:
    """A question and its answer, if there is one."""

    question: Question
    answer: Answer | None

    @property
    def id(self) -> str:
        return self.question.digest[:SHORTEST]

    @property
    def state(self) -> str:
        """waiting, approved, rejected; where nobody has to be asked "within policy" or declined."""
        if self.answer is not None:
            return self.answer.said
        if self.question.declined:
            return "declined"
        return "waiting" if self.question.waits else "within policy"

    @property
    def compared(self) -> bool:
        """Whether the roster is one that the sites compared, rather than one that the coordinator wrote."""
        pinned = self.question.pinned
        by_hand = self.answer.roster if self.answer else ""
        return pinned is not None and (pinned.in_policy or by_hand == pinned.digest)


class Approvals:
    """The folder, for both processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    # the client's side

    def ask(self, question: Question) -> None:
        """Write down what was asked; what is known of its roster stays."""
        old = self._question(question.digest)
        if old is not None:
            same = {"pinned": old.pinned, "asked": old.asked} if old.run == question.run else {}
            question = question.model_copy(update=same)
            if question == old:
                return  # asked again, after a lost connection
        private_folder(self._folder)
        write_private(self._at(question.digest, "json"), question.model_dump_json().encode())
        self._forget_the_oldest()

    def pin(self, digest: str, pinned: Pinned) -> None:
        """Write down which roster a run of this plan was pinned to."""
        question = self._question(digest)
        if question is not None and question.pinned != pinned:
            changed = question.model_copy(update={"pinned": pinned, "run": pinned.run})
            write_private(self._at(digest, "json"), changed.model_dump_json().encode())

    def answer(self, digest: str) -> Answer | None:
        """Return what somebody here said of this plan."""
        return self._read(self._at(digest, "answer"), Answer)

    # the commands' side

    def records(self) -> list[Record]:
        """Return all, the latest question first."""
        digests = [path.stem for path in self._folder.glob("*.json") if is_digest(path.stem)]
        found = [question for digest in digests if (question := self._question(digest)) is not None]
        found.sort(key=lambda question: -question.asked)
        return [Record(question, self.answer(question.digest)) for question in found]

    def find(self, start: str) -> Record:
        """Return the plan whose digest begins so.  Raises NotFound, or BadConfiguration if it is not one."""
        if len(start) < SHORTEST:
            raise BadConfiguration(
                f'"{start}" is too short: name a plan by {SHORTEST} digits of its digest or more'
            )
        matching = [record for record in self.records() if record.question.digest.startswith(start.lower())]
        if not matching:
            raise NotFound(f'no plan "{start[:64]}" was asked here\n  unisono client plans lists them')
        if len(matching) > 1:
            raise BadConfiguration(f'"{start}" begins {len(matching)} digests\n  give more digits')
        return matching[0]

    def say(self, record: Record, answer: Answer) -> Record:
        """Write an answer down; a running client notices it within about a second."""
        write_private(self._at(record.question.digest, "answer"), answer.model_dump_json().encode())
        return replace(record, answer=answer)

    def _at(self, digest: str, kind: str) -> Path:
        return self._folder / f"{digest}.{kind}"

    def _question(self, digest: str) -> Question | None:
        found = self._read(self._at(digest, "json"), Question)
        if found is not None and (found.digest != digest or sha256_hex(found.plan.encode()) != digest):
            raise BadConfiguration(f"{self._at(digest, 'json')} is of another plan\n  remove it")
        return found

    def _read(self, path: Path, model: type[M]) -> M | None:
        try:
            return model.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise BadConfiguration(f"{path} cannot be read\n  remove it: the plan is asked again") from None

    def _forget_the_oldest(self) -> None:
        unanswered = [record for record in self.records() if record.answer is None]
        for record in unanswered[MOST:]:
            self._at(record.question.digest, "json").unlink()
