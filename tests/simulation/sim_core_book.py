"""What must hold in a world of the fast tier: every sum that is opened is of whole updates, each once."""

import numpy as np
from sim_book import Book, Violation
from sim_core_desk import model_after
from sim_core_words import Call, Put, Tell, Words
from sim_plan import RUN

from unisono.base.ids import ClientName
from unisono.plan.layout import layout_of
from unisono.server.rounds import Aggregate, RoundPublished, Run


class Pages(Book):
    """The book of a world in which site i adds 1 to word i, and a model is the name of its sum."""

    def summed(self, order: Aggregate, total: Words) -> None:
        """Hold a sum, the moment it is open, against the sites that it is said to be of."""
        if not np.array_equal(total, self._wanted(order)):
            names = [client for client, _ in order.updates]
            raise Violation(f"round {order.round}: the sum of {names} is {total}")

    def look_at_model(self, fact: RoundPublished, order: Aggregate, names: tuple[ClientName, ...]) -> None:
        if fact.model != model_after(order.model, self._wanted(order)):
            raise Violation(f"round {fact.round} of {names} published another sum than theirs")

    def _wanted(self, order: Aggregate) -> Words:
        assert self.manifest is not None
        spec = layout_of(self.plan, self.manifest, order.what, order.round, order.cohort, order.bounds)
        wanted = np.zeros(spec.words, np.uint64)
        wanted[[self.numbers[client] - 1 for client, _ in order.updates]] = 1
        return wanted

    def revived(self, found: Run) -> None:
        """Hold what a new process made of the ledger against what the last one had."""
        if self.run is not None and found.aside != self.run.aside:
            raise Violation(f"a restart changed the attempt: {self.run.aside} became {found.aside}")

    def sends(self, call: Call) -> None:
        """Look at what leaves a site."""
        match call.request:
            case Tell(at, data):
                self.said(call.site, (RUN, *at), data)

    def acknowledged(self, call: Call, *, spooled: bool) -> None:
        """Look at what was just answered."""
        match call.request:
            case Tell(at, data):
                self.took_word(call.site, (RUN, *at), data)
            case Put(at, digest):
                self.took_update(call.site, (RUN, *at), digest, spooled=spooled)
