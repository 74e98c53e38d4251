"""The worker that watches the API key: whether the exchange still accepts it, and what it may do."""

import asyncio
import logging

from core.gate import Gate
from core.gateway import Gateway
from core.preflight import rights_check
from utils.errors import AuthFailed, ExchangeError
from utils.http import BinanceRest

log = logging.getLogger(__name__)

REFUSED_KEY = "key refused"
RIGHTS_KEY = "key rights"


class KeyKeeper:
    """Closes the account's gate, with the cause in words, while the key is not accepted or may do too much.

    A refusal by any request closes it at once; it opens when the exchange answers a signed question, ``PROBE_EVERY_S``
    after the last refusal. What already rests can be cancelled by nobody meanwhile: the exchange's dead-man switch does
    it. The rights are asked for again every ``RIGHTS_EVERY_S``; ``wallet`` is the host that knows them, None where
    there is none.
    """

    name = "keys"
    PROBE_EVERY_S = 5.0
    RIGHTS_EVERY_S = 24 * 3600.0
    RETRY_S = 600.0

    def __init__(self, gateway: Gateway, wallet: BinanceRest | None, gate: Gate) -> None:
        self._gateway = gateway
        self._wallet = wallet
        self._gate = gate
        self._refused = asyncio.Event()
        gateway.rest.on_key_refused = self._note_refusal

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._until_accepted_again(), name="key probe")
            if self._wallet is not None:
                group.create_task(self._keep_rights(self._wallet), name="key rights")

    def _note_refusal(self, refusal: AuthFailed) -> None:
        cause = f"the exchange does not accept the API key ({refusal})"
        if self._gate.close(REFUSED_KEY, cause):
            log.critical(
                "%s; check at the exchange that the key exists, that futures are enabled for it, and that it allows the"
                " address that this machine has now",
                cause,
            )
        self._refused.set()

    async def _until_accepted_again(self) -> None:
        while True:
            await self._refused.wait()
            self._refused.clear()  # a refusal within these seconds sets it again, and so does one of the probe
            await asyncio.sleep(self.PROBE_EVERY_S)
            if self._refused.is_set():
                continue
            try:
                await self._gateway.account_modes()
            except ExchangeError:
                self._refused.set()
                continue
            if not self._refused.is_set() and self._gate.open(REFUSED_KEY):
                log.warning("the exchange accepts the API key again")

    async def _keep_rights(self, wallet: BinanceRest) -> None:
        wait_s = self.RIGHTS_EVERY_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self.RETRY_S
            try:
                check = rights_check(await self._gateway.key_rights(wallet))
            except ExchangeError as error:
                log.warning("the rights of the API key could not be read: %s", error)
                continue
            if check.passed:
                wait_s = self.RIGHTS_EVERY_S
                self._gate.open(RIGHTS_KEY)
                if check.caution:
                    log.warning("%s: %s; %s", check.name, check.found, check.caution)
            elif self._gate.close(RIGHTS_KEY, check.found):
                log.critical("%s: %s; quoting is paused: %s", check.name, check.found, check.remedy)
