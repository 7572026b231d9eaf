"""The keys of `policy.toml`, with defaults that let a site start and then be made stricter.

One thing has to be allowed by the site itself: that the coordinator reads its update alone ("sealed").
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unisono.base.errors import BadConfiguration
from unisono.base.hours import Hours
from unisono.base.ids import is_digest, is_name
from unisono.plan.mistakes import shown
from unisono.plan.reading import read_toml

Protection = Literal["sealed", "secagg", "he"]
Names = Annotated[tuple[str, ...], Field(strict=False)]  # TOML has arrays, no tuples


class Policy(BaseModel):
    """What a site takes part in.  None means no limit."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    tasks: Names | None = None  # None: all that this client offers
    protections: Annotated[tuple[Protection, ...], Field(strict=False, min_length=1)] = ("secagg",)
    min_cohort: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    max_colluding: Annotated[int, Field(ge=0, le=98)] = 0  # sites that may conspire with the coordinator
    max_releases_per_model: Annotated[int, Field(ge=1, le=1000)] = 1  # counted by the session, under `secagg`
    max_epsilon: Annotated[float, Field(gt=0)] | None = None
    hours: str | None = None  # "20:00-06:00", local time; the end is not included
    roster_digest: str | None = None  # SHA-256 that the sites compared
    approve: Literal["within-policy", "ask"] = "within-policy"
    plans: Names | None = None  # digests of approved plans
    share_log_tail: bool = False

    @field_validator("hours")
    @classmethod
    def _span(cls, value: str | None) -> str | None:
        try:
            return value if value is None else str(Hours.parse(value))
        except BadConfiguration:
            raise ValueError(f'must be a span such as "20:00-06:00", not {shown(value)}') from None

    @field_validator("roster_digest")
    @classmethod
    def _digest(cls, value: str | None) -> str | None:
        if value is not None and not is_digest(value):
            raise ValueError(f"must be a SHA-256 (64 hexadecimal digits), not {shown(value)}")
        return value

    @field_validator("tasks")
    @classmethod
    def _tasks(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if not is_name(name):
                raise ValueError(f"must hold names of tasks, not {shown(name)}")
        return value

    @field_validator("plans")
    @classmethod
    def _plans(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for digest in value or ():
            if not is_digest(digest):
                raise ValueError(f"must hold digests of plans (64 hexadecimal digits), not {shown(digest)}")
        return value

    @property
    def span(self) -> Hours | None:
        """The hours in which the site takes part, if it says so."""
        return None if self.hours is None else Hours.parse(self.hours)


def parse(data: bytes, name: str = "policy.toml") -> Policy:
    """Return the policy in a TOML file; an empty one is the default.  Raises BadConfiguration."""
    return read_toml(data, name, Policy)
