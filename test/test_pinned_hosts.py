"""A run talks to the hosts of its environment and to nobody else, whatever it is told on the way."""

import datetime
import socket
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from utils.errors import Disconnected, NotSent, OutcomeUnknown
from utils.http import AiohttpTransport
from utils.tls import tls_context
from utils.venue import LIVE, TESTNET, Venue, paper_venue
from utils.ws_picows import PicowsTransport
from utils.ws_websockets import SocketTransport

CARRIERS = pytest.mark.parametrize("carrier", [PicowsTransport, SocketTransport])
Carrier = type[PicowsTransport] | type[SocketTransport]


@pytest.mark.parametrize("path", ["@127.0.0.1:1/x", ".example.com/x", ":1/x", "@evil/fapi/v1/order"])
async def test_path_that_would_lead_to_another_host_is_not_sent(path: str) -> None:
    """Not even the name is looked up; the key stays here."""
    transport = AiohttpTransport("https://fapi.binance.com")
    with pytest.raises((NotSent, ValueError)):
        await transport.request("GET", path, "", {"X-MBX-APIKEY": "k"}, 0.1)
    assert transport._sessions.present is None
    for carrier in (PicowsTransport, SocketTransport):
        with pytest.raises((Disconnected, ValueError)):
            await carrier("wss://fstream.binance.com").connect(path)


@CARRIERS
async def test_redirected_stream_is_not_followed(carrier: Carrier) -> None:
    """The library would follow it, to another host if need be."""
    paths: list[str] = []

    async def talk(server: ServerConnection) -> None:
        """Never reached."""

    def send_elsewhere(_server: ServerConnection, request: Request) -> Response:
        paths.append(request.path)
        return Response(302, "Found", Headers({"Location": "/elsewhere"}), b"")

    async with serve(talk, "127.0.0.1", 0, process_request=send_elsewhere, close_timeout=0.1) as server:
        transport = carrier(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(Disconnected, match=r"no connection \(HTTP 302\)"):
            await transport.connect("/here")
    assert paths == ["/here"]


async def test_answer_without_end_is_an_unknown_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, with and without a length that was said before; what is compressed counts unpacked."""
    monkeypatch.setattr(AiohttpTransport, "MAX_BODY_BYTES", 1000)

    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.Response(body=b"x" * (1001 if request.path == "/large" else 1000))
        if request.query_string:
            answer.enable_compression()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    transport = AiohttpTransport(f"http://127.0.0.1:{runner.addresses[0][1]}")
    for query in ("", "packed"):
        assert len((await transport.request("GET", "/small", query, {}, 5)).body) == 1000
        with pytest.raises(OutcomeUnknown, match="no answer"):
            await transport.request("POST", "/large", query, {}, 5)
    await transport.close()
    await runner.cleanup()


def _own_certificate(folder: Path) -> ssl.SSLContext:
    """Return the server side of somebody who says to be localhost and has nobody to confirm it."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "pem").write_bytes(pem + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    return context


async def test_host_that_nobody_vouches_for_gets_no_request(tmp_path: Path) -> None:
    """A certificate of one's own making opens neither transport."""

    async def talk(server: ServerConnection) -> None:
        """Never reached."""

    async with serve(talk, "127.0.0.1", 0, ssl=_own_certificate(tmp_path), close_timeout=0.1) as server:
        port = server.sockets[0].getsockname()[1]
        rest = AiohttpTransport(f"https://localhost:{port}")
        with pytest.raises(NotSent, match="ClientConnectorCertificateError"):
            await rest.request("GET", "/x", "", {}, 5)
        await rest.close()
        for carrier in (PicowsTransport, SocketTransport):
            with pytest.raises(Disconnected, match="SSLCertVerificationError"):
                await carrier(f"wss://localhost:{port}").connect("/ws")


@CARRIERS
async def test_stream_is_carried_over_encryption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carrier: Carrier
) -> None:
    """Both ways, in pieces larger than a record of TLS, and the end is seen."""
    server_side = _own_certificate(tmp_path)
    trusting = tls_context()
    trusting.load_verify_locations(tmp_path / "pem")
    monkeypatch.setattr("utils.ws_pinned.tls_context", lambda: trusting)

    async def talk(server: ServerConnection) -> None:
        await server.send(await server.recv())

    async with serve(
        talk, "localhost", 0, family=socket.AF_INET, ssl=server_side, close_timeout=0.1
    ) as server:
        connection = await carrier(f"wss://localhost:{server.sockets[0].getsockname()[1]}").connect("/ws")
        connection.send_now("x" * 300_000)
        assert await connection.receive() == b"x" * 300_000
        with pytest.raises(Disconnected, match="code 1000"):
            await connection.receive()
        await connection.close()


def test_encryption_is_verified_new_enough_and_written_down_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Certificate and name, TLS 1.2 at least, and no variable has the session keys logged."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.keylog_filename is None


@pytest.mark.parametrize(
    ("venue", "origin"),
    [
        (LIVE, "https://127.0.0.1"),
        (LIVE, "https://localhost:443"),
        (LIVE, "http://fapi.binance.com"),
        (LIVE, "https://demo-fapi.binance.com"),
        (LIVE, "https://fapi.binance.com.evil.example"),
        (LIVE, "https://fapi.binance.com@evil.example"),
        (LIVE, "https://fapi.binance.com/elsewhere"),
        (TESTNET, "https://fapi.binance.com"),
        (TESTNET, "http://127.0.0.1:8080"),
        (paper_venue("http://127.0.0.1:8080"), "https://fapi.binance.com"),
        (paper_venue("http://127.0.0.1:8080"), "http://192.0.2.1:8080"),
    ],
)
def test_environment_has_its_own_hosts_only(venue: Venue, origin: str) -> None:
    """Real keys go to no host that is not the exchange's, made-up ones to none that is."""
    with pytest.raises(ValueError, match=f"{venue.environment} trading does not connect to"):
        replace(venue, rest_origin=origin)
