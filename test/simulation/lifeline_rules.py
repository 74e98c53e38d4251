"""What must hold when the daemon dies, stops, halts or breaks a limit: quotes go, and stay gone."""

import os
from urllib.parse import parse_qs

from core.client_ids import boot_of
from core.exit_code import ExitCode
from sim.messages import Request, Response
from sim.orders import Order
from test.daemon import Sent
from test.simulation.facts import DEAD_MAN_S, LIMIT_QUOTE, LYING_READS, OTHER_HANDS, Facts

_UNPROTECTED_S = 6.0
_LATE_REQUESTS = ("delay-request", "straggle", "stall", "latency", "half-open")
_DISK = ("disk-full", "disk-broken")
_UNFELT = (*_DISK, "second-daemon", "wrong-host")
_DUST_QUOTE = 140
"""Two of the larger steps that are drawn."""
_HALT_IN_FLIGHT_S = 6.0
_CLOSED_WITHIN_S, _CLOSED_WITHIN_STORM_S = 60.0, 240.0


class LifelineRules:
    """INV-14, -15, -16, -17 and -18."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._unprotected_s: float | None = None
        self._latched_s: float | None = None
        self._breach_s: float | None = None
        self._frozen_ns = 0
        self._closing_s: float | None = None
        self._closing_boot: int | None = None

    def order_changed(self, order: Order, execution: str) -> None:
        """Look at an order of ours that has just been accepted, or filled."""
        if execution == "NEW" and not order.reduce_only:
            self.inv_18_halt_stands(order)
            self.inv_17_close_is_finished_before_a_quote(order)
        self._note_flat()

    def sending(self, sent: Sent) -> None:
        """Look at a request that leaves the daemon: one that closes begins a close, whatever becomes of it."""
        if sent.is_close() and self._closing_s is None:
            [client_id] = parse_qs(sent.query)["newClientOrderId"]
            self._closing_s, self._closing_boot = self._facts.now_s, boot_of(client_id)

    def answered(self, request: Request, response: Response) -> None:
        """Look at a dead-man switch that was just set."""
        if request.path == "/fapi/v1/countdownCancelAll" and response.status == 200:
            self.inv_14_timer_is_short_and_disarmed_last()

    def look(self) -> None:
        """Look at time passing."""
        self.inv_14_quotes_are_protected()
        self.inv_15_quotes_go_when_nobody_is_there()
        self.inv_17_breach_takes_quotes_out()
        self._note_flat()
        self.inv_17_close_is_finished_by_somebody()
        latched = os.access(self._facts.operator.latch.path, os.F_OK)  # no exception twice a second
        if not latched:
            self._latched_s = None
        elif self._latched_s is None:
            self._latched_s = self._facts.now_s

    def frozen(self, now_ns: int) -> None:
        """Look on while the daemon does not run at all: ``now_ns`` is the time of it."""
        if self._frozen_ns == 0 or now_ns - self._frozen_ns > 30e9:
            self._frozen_ns = now_ns
        if now_ns - self._frozen_ns > (DEAD_MAN_S + 1) * 1e9 and self._facts.world.ours():
            self._facts.violated(
                "INV-15", f"quotes rest {(now_ns - self._frozen_ns) / 1e9:.1f} s into a freeze"
            )

    def thawed(self) -> None:
        """Note that the daemon runs."""
        self._frozen_ns = 0

    def inv_14_timer_is_short_and_disarmed_last(self) -> None:
        """INV-14: the timer is set to at most 20 s, and to none only when no order of ours rests.

        Where the exchange's readings hide orders, nobody can have known better.
        """
        instrument, world = self._facts.instrument, self._facts.world
        due_ms = instrument.countdown_due_ms
        if due_ms is None:
            if world.ours() and not self._facts.struck(10.0, *LYING_READS):
                self._facts.violated("INV-14", f"disarmed with {len(world.ours())} orders resting")
        elif due_ms - world.clock.time_ms() > DEAD_MAN_S * 1000:
            self._facts.violated("INV-14", f"armed for {due_ms - world.clock.time_ms()} ms")

    def inv_14_quotes_are_protected(self) -> None:
        """INV-14: quotes rest under an armed timer.

        One that was sent in time may arrive after the timer has fired; it is covered by the next refresh. So 6 s
        (a refresh interval and a second) without a timer are a violation, 30 s where requests are held up.
        """
        facts = self._facts
        if facts.instrument.countdown_due_ms is not None or not facts.world.ours():
            self._unprotected_s = None
        elif self._unprotected_s is None:
            self._unprotected_s = facts.now_s
        allowed_s = 30.0 if facts.nemesis.last_s > facts.now_s - 30 else _UNPROTECTED_S
        if self._unprotected_s is not None and facts.now_s - self._unprotected_s > allowed_s:
            facts.violated("INV-14", f"{len(facts.world.ours())} orders rest without a dead-man timer")

    def inv_15_quotes_go_when_nobody_is_there(self) -> None:
        """INV-15: 21 s after the daemon has vanished none of its quotes rest: the timer of 20 s, and a second."""
        gone_s = self._facts.operator.gone_s
        if gone_s is not None and self._facts.now_s - gone_s > DEAD_MAN_S + 1 and self._facts.world.ours():
            self._facts.violated("INV-15", f"{len(self._facts.world.ours())} orders rest after a crash")

    def ended(self, code: ExitCode) -> None:
        """INV-16: a daemon that ends as stopped or halted leaves no order; one that could not verify leaves the timer.

        A request that was delayed on its way may still arrive after the verification, and where readings lied the
        verification was a lie: no verdict in these two cases.
        """
        facts = self._facts
        ours = facts.world.ours()
        if not ours or facts.struck(12.0, *LYING_READS, *_LATE_REQUESTS):
            return
        if code in (ExitCode.STOPPED, ExitCode.HALTED):
            facts.violated("INV-16", f"{len(ours)} orders rest after the end, which was {code.name}")
        elif facts.instrument.countdown_due_ms is None:
            facts.violated("INV-16", f"{len(ours)} orders rest after the end without a timer")

    def inv_17_breach_takes_quotes_out(self) -> None:
        """INV-17: quotes are out 3 s after a breach of the limit and the position is closed after 20 s, in calm.

        The position is read every second, and each step has a round trip. While faults strike that a close could feel,
        and 15 s after, the bounds are 60 s and 240 s; a disk is no such, and what other hands trade is closed as well,
        within the bounds from then on. They are as wide while another program has used up the minute's weight, without
        which nobody can read a clock or a position, and while exchange or firewall want silence, and 15 s after.
        """
        facts = self._facts
        instrument = facts.instrument
        lots = facts.world.exchange._venue.account.positions[instrument.symbol].lots
        value = abs(instrument.rules.quantity(lots)) * instrument.mark.mark
        if value <= LIMIT_QUOTE or facts.context is None:
            self._breach_s = None
            return
        self._breach_s = facts.now_s if self._breach_s is None else self._breach_s
        felt = facts.nemesis.struck_s.keys() - set(_UNFELT) - set(OTHER_HANDS)
        harmed_s = max(facts.struck_last_s(*felt), facts.silent_last_s)
        calm = facts.now_s - harmed_s > 15 and not facts.struck(61.0, "used-weight")
        since_s = max(self._breach_s, facts.struck_last_s(*OTHER_HANDS))
        for_s = facts.now_s - (max(since_s, harmed_s + 15) if calm else self._breach_s)
        quotes = [each for each in facts.world.ours() if not each.reduce_only]
        if quotes and for_s > (3.0 if calm else 60.0):
            facts.violated(
                "INV-17", f"{len(quotes)} quotes rest {for_s:.1f} s after the position was worth {value:.0f}"
            )
        if for_s > (20.0 if calm else 240.0):
            facts.violated("INV-17", f"a position worth {value:.0f} stands for {for_s:.0f} s")

    def _note_flat(self) -> None:
        """Have a close be finished once nothing is held that an order could close, with whatever step there was."""
        if self._closing_s is None:
            return
        instrument = self._facts.instrument
        lots = abs(self._facts.world.exchange._venue.account.positions[instrument.symbol].lots)
        if instrument.rules.quantity(lots) * instrument.mark.mark < _DUST_QUOTE:
            self._closing_s = None

    def inv_17_close_is_finished_before_a_quote(self, order: Order) -> None:
        """INV-17: whoever began a close, and whoever was killed in it, nobody quotes before the position was flat.

        A quote of the same run may have been on its way when it began. Where readings lied, the position was flat for
        all anybody could know; where the disk took nothing when it began, the next run does not know of it.
        """
        since_s = self._closing_s
        if since_s is None:
            return
        is_same_run = boot_of(order.client_order_id) == self._closing_boot
        if is_same_run and self._facts.now_s - since_s < _HALT_IN_FLIGHT_S:
            return
        is_unknown = not is_same_run and self._is_unwritten(since_s)
        if not is_unknown and not self._facts.struck(60.0, *LYING_READS):
            self._facts.violated(
                "INV-17",
                f"{order.client_order_id} was placed, and a close of {since_s:.1f} s is not finished",
            )

    def _is_unwritten(self, closing_s: float) -> bool:
        """Tell whether the disk may have taken no note of a close that began then."""
        return self._facts.struck(self._facts.now_s - closing_s + 10.0, *_DISK)

    def inv_17_close_is_finished_by_somebody(self) -> None:
        """INV-17: a close that has begun ends flat, or in dust, in 60 s, through kills and stops and restarts.

        While faults strike, or the exchange wants silence, and 15 s after, the bound is 240 s. Not where the disk took
        nothing when it began: the next run does not know of it.
        """
        facts = self._facts
        if self._closing_s is None or self._is_unwritten(self._closing_s):
            return
        harmed_s = max(facts.nemesis.last_s, facts.silent_last_s)
        calm = facts.now_s - harmed_s > 15
        for_s = facts.now_s - max(self._closing_s, harmed_s + 15 if calm else 0)
        if for_s > (_CLOSED_WITHIN_S if calm else _CLOSED_WITHIN_STORM_S):
            facts.violated("INV-17", f"a close that began at {self._closing_s:.1f} s has not ended")

    def inv_18_halt_stands(self, order: Order) -> None:
        """INV-18: no quote comes to rest while a halt stands on disk; one may have been on its way for recvWindow."""
        latched_s = self._latched_s
        if not self._facts.operator.latch.path.exists():
            return  # it was cleared since the last look
        if latched_s is not None and self._facts.now_s - latched_s > _HALT_IN_FLIGHT_S:
            self._facts.violated("INV-18", f"{order.client_order_id} was placed although a halt stands")
