"""Finds out who we are: the operator's folder, or a client's, with its keys and the coordinator's address."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from unisono.base.errors import BadConfiguration
from unisono.plan.reading import read_toml

Role = Literal["admin", "client"]

_STEMS: dict[Role, str] = {"admin": "admin", "client": "tls"}


class Connection(BaseModel):
    """`admin.toml`, and the part of `client.toml` that is needed to dial."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    coordinator: str


@dataclass(frozen=True, slots=True)
class Identity:
    """A folder with an identity in it, and whom it dials."""

    role: Role
    folder: Path
    coordinator: str  # host:port

    @property
    def stem(self) -> str:
        """STEM.key and STEM.pem are the pair to connect with."""
        return _STEMS[self.role]


def find(directory: Path, roles: tuple[Role, ...] = ("admin",)) -> Identity:
    """Return the identity in DIR/admin (or DIR/client), or in DIR itself.  Raises BadConfiguration."""
    for role in roles:
        for folder in (directory / role, directory):
            if (folder / f"{role}.toml").is_file():
                return _identity(role, folder)
    wanted = " or ".join(f"{role}.toml" for role in roles)
    places = " nor in ".join(str(path) for path in (directory, *(directory / role for role in roles)))
    raise BadConfiguration(
        f"no {wanted} in {places}\n"
        "  give the folder that `unisono init` made (or a copy of its admin folder): --dir DIR"
    )


def _identity(role: Role, folder: Path) -> Identity:
    file = folder / f"{role}.toml"
    read = read_toml(file.read_bytes(), str(file), Connection)
    if re.fullmatch(r"\S+:\d{1,5}", read.coordinator) is None:
        raise BadConfiguration(f'{file}: coordinator must be "host:port", not "{read.coordinator[:80]}"')
    return Identity(role, folder, read.coordinator)
