"""What depth streams say: changes of the book, or its best levels in full.

Source: facts section 6.
"""

from sim.depth import Chain, DiffChain, depth_event
from sim.instrument import Instrument


class DiffDepth:
    """Changes of the book since the event before; nothing is said while the book shows the same."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._chain = DiffChain(0)

    def start(self) -> None:
        """Begin the chain at the present book."""
        shown = self._instrument.shown
        self._chain = DiffChain(shown.look(self._instrument.quote).update_id)
        shown.chains.append(self._chain)
        shown.diffs.append(self._chain)

    def stop(self) -> None:
        """End the chain."""
        shown = self._instrument.shown
        shown.chains.remove(self._chain)
        shown.diffs.remove(self._chain)

    def greet(self) -> None:
        """Do nothing: a diff tells changes only."""

    def speak(self, now_ms: int) -> list[str]:
        """Return what has changed since the event before, if anything shows."""
        instrument = self._instrument
        image = instrument.shown.look(instrument.quote)
        bids, asks = self._chain.collect()
        if not bids and not asks:
            return []
        ids = self._chain.link(image.update_id)
        return [depth_event(instrument.rules, image, ids, bids, asks, now_ms)]


class PartialDepth:
    """The best levels in full, whenever the book has another id."""

    def __init__(self, instrument: Instrument, levels: int) -> None:
        self._instrument = instrument
        self._levels = levels
        self._chain = Chain(0)
        self._greets = False

    def start(self) -> None:
        """Begin the chain at the present book."""
        shown = self._instrument.shown
        self._chain = Chain(shown.look(self._instrument.quote).update_id)
        shown.chains.append(self._chain)

    def stop(self) -> None:
        """End the chain."""
        self._instrument.shown.chains.remove(self._chain)

    def greet(self) -> None:
        """Tell the levels once more."""
        self._greets = True

    def speak(self, now_ms: int) -> list[str]:
        """Return the best levels if they are news."""
        instrument, limit = self._instrument, self._levels
        image = instrument.shown.look(instrument.quote)
        if instrument.quote is None or (image.update_id == self._chain.last_id and not self._greets):
            return []
        self._greets = False
        ids = self._chain.link(image.update_id)
        bids, asks = image.bids.best(limit), image.asks.best(limit)
        return [depth_event(instrument.rules, image, ids, bids, asks, now_ms)]
