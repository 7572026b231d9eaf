"""Who may download which model: operators any, clients those of the runs that they take part in."""

from collections.abc import Callable

from unisono.base.errors import NotFound
from unisono.base.ids import ClientName, Digest
from unisono.identity import Peer

from .hall import Hall
from .lineage import Lineage


class Library:
    """Lends models."""

    def __init__(self, hall: Hall) -> None:
        self._hall = hall

    async def lend(self, peer: Peer, digest: Digest, offset: int = 0) -> Callable[[int], None]:
        """Return what counts the bytes sent from `offset` on.

        Raises NotFound, whether or not the model exists.
        """
        client = ClientName(peer.name)
        if peer.kind == "client":
            for lineage in self._hall.runs.values():
                if lineage.run.model == digest and client in lineage.run.roster:
                    return self._counter(client, lineage, offset)
        rosters = await self._hall.workers.database(self._hall.store.rosters_of_model, digest)
        if not rosters or (peer.kind == "client" and not any(client in roster for roster in rosters)):
            raise NotFound(f"there is no model {digest} here for {peer.name}")
        return lambda count: self._hall.meters.moved("out", count)

    def _counter(self, client: ClientName, lineage: Lineage, sent: int) -> Callable[[int], None]:
        total = lineage.manifest.file_bytes

        def count(more: int) -> None:
            nonlocal sent
            sent += more
            self._hall.meters.moved("out", more)
            lineage.driver.count(lineage.run.round + 1, sent=more)
            if self._hall.presence.get(client) is not None:
                self._hall.presence.moved(client, "downloading", sent, total)

        return count
