"""Which library carries the WebSockets: picows where it can be had, else websockets.

Not to be run as a script (see ``utils/http.py``).
"""

import logging

from utils.ws import WsTransport

log = logging.getLogger(__name__)


def socket_transport(origin: str) -> WsTransport:
    """Return a transport to this origin over real sockets, by the faster library of those that can be imported."""
    try:
        from utils.ws_picows import PicowsTransport
    except ImportError as error:
        from utils.ws_websockets import SocketTransport  # Python all through: it is there wherever Python is

        log.warning("WebSockets go by the slower of two libraries: %s", error)
        return SocketTransport(origin)
    return PicowsTransport(origin)
