"""Checks of a site, of an operator's folder, and of a join token before it is used.

`unisono doctor` asks here and in `unisono.server.doctor`; what the network and the machine say comes from
`unisono.probe`.  Nothing is changed: the coordinator is asked questions that have no consequences.
"""

from collections.abc import Iterator

from unisono.client.runtime.files import client_folder
from unisono.probe import Ask, Subject

from .members import operator, site
from .tokens import bare, token


def examine(ask: Ask) -> Iterator[Subject]:
    """Yield what there is to look at."""
    folder = client_folder(ask.directory)
    joined = (folder / "client.toml").is_file()
    if joined:
        yield site(folder, ask)
    for path in (ask.directory / "admin", ask.directory):
        if (path / "admin.toml").is_file():
            yield operator(path, ask)
            break
    else:
        if ask.address and ask.token is None and not joined:
            yield bare(ask)
    if ask.token is not None:
        yield token(ask, folder if joined else None)
