"""uvloop, with the descriptors of connections that are given up closed once."""

import socket
from typing import Any

import uvloop


class UvLoop(uvloop.Loop):
    """uvloop's loop. A socket handed to ``create_connection`` is the loop's from then on, however that ends.

    uvloop 0.22 closes the descriptor of a connection that is cancelled while it opens, and leaves the socket object in
    the belief that it is open. Collected later, that closes the same number again: by then another connection, the
    journal or a lock.
    """

    async def create_connection(
        self, *arguments: Any, sock: socket.socket | None = None, **options: Any
    ) -> Any:
        """Return transport and protocol, as the loop that it extends; if it raises, ``sock`` is the caller's no more.

        The loop closes its descriptor. Only one that was never taken, because the protocol could not be made or an
        argument was wrong, stays open: from outside it looks like one whose number is another's already.
        """
        try:
            return await super().create_connection(*arguments, sock=sock, **options)
        except BaseException:
            if sock is not None:
                sock.detach()
            raise
