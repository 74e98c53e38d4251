"""How the other end is known to be the one that it says it is."""

import ssl


def tls_context() -> ssl.SSLContext:
    """Return a context that verifies certificate and host name against the system's authorities, from TLS 1.2 on.

    Made by hand: the standard library's default would write the session keys where SSLKEYLOGFILE points.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context
