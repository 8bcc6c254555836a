"""TLS: a certificate of one's own, renewed on disk while the server runs."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import trustme

from asking import ask, fresh_bytes, path_of
from support import DEADLINE_SECONDS, need_tool, run_cli, running_server, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support import Server


def write_pair(place: Path, authority: trustme.CA, host: str = "127.0.0.1") -> tuple[Path, Path]:
    """Puts a new certificate and its key where the server looks, as a renewal does."""
    issued = authority.issue_cert(host)
    cert, key = place / "tls.crt", place / "tls.key"
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    for path, text in ((key, issued.private_key_pem.bytes()), (cert, chain)):
        new = path.with_suffix(".new")
        new.write_bytes(text)
        os.replace(new, path)
    return cert, key


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(place: Path, authority: trustme.CA) -> Iterator[Server]:
    cert, key = write_pair(place, authority)
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--workers", "2")
    with running_server(place / "data", *options, scheme="https") as found:
        yield found


def serial_number(server: Server, context: ssl.SSLContext) -> str:
    """Of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        shown = sock.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


@pytest.mark.parametrize("size_bytes", [0, 100, 70_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_of_any_size_go_there_and_back(
    server: Server, trusting: ssl.SSLContext, size_bytes: int, framing: str
) -> None:
    data = fresh_bytes(size_bytes)

    stored = ask(server, "PUT", "/", data if framing == "length" else iter([data]), tls=trusting)

    assert stored.brief == (200, path_of(data).encode())
    assert ask(server, "GET", path_of(data), tls=trusting).brief == (200, data)
    part = ask(server, "GET", path_of(data), headers={"Range": "bytes=1-50"}, tls=trusting)
    assert part.brief[1] == data[1:51] or size_bytes == 0


def test_curl_trusts_the_certificate(server: Server, authority: trustme.CA, tmp_path: Path) -> None:
    curl = need_tool("curl")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    shown = subprocess.run(
        [curl, "-sS", "--noproxy", "*", "--cacert", tmp_path / "ca.pem", "--data-binary", "hello", server.url],
        capture_output=True,
        check=True,
    )

    assert shown.stdout.decode() == path_of(b"hello")


def test_a_client_with_other_authorities_does_not_trust_it(server: Server) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, "GET", "/-/health", tls=ssl.create_default_context())


def test_http_1_1_over_tls_1_2_is_enough(server: Server, trusting: ssl.SSLContext) -> None:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=b"".join(trusting.get_ca_certs(binary_form=True)))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        assert (sock.version(), sock.selected_alpn_protocol()) == ("TLSv1.2", "http/1.1")


def test_plain_http_gets_no_answer_and_harms_nobody(server: Server, trusting: ssl.SSLContext) -> None:
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as sock:
        sock.sendall(b"GET /-/health HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            answer = sock.recv(100)
        except ConnectionError:
            answer = b""

    assert not answer.startswith(b"HTTP")
    assert ask(server, "GET", "/-/health", tls=trusting).status == 200


def test_a_renewed_certificate_is_shown_to_new_connections(
    server: Server, place: Path, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    before = serial_number(server, trusting)
    log = place / "data.stderr"
    cert = place / "tls.crt"
    with (
        socket.create_connection(("127.0.0.1", server.port), DEADLINE_SECONDS) as plain,
        trusting.wrap_socket(plain, server_hostname="127.0.0.1") as kept,
    ):
        cert.write_text("half a certificate")
        wait_until(lambda: "the old one stays" in log.read_text(), "the broken certificate is noticed")
        assert serial_number(server, trusting) == before

        write_pair(place, authority)

        def renewed() -> bool:
            # Each worker takes the renewal by itself; many connections meet both.
            return before not in {serial_number(server, trusting) for _ in range(8)}

        wait_until(renewed, "every new connection is shown the new certificate")
        kept.sendall(b"GET /-/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200")
    assert ask(server, "GET", "/-/health", tls=trusting).status == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tls-cert", "{good}.crt"], "A TLS certificate and its key come together."),
        (["--tls-key", "{good}.key"], "A TLS certificate and its key come together."),
        (["--tls-cert", "{good}.crt", "--tls-key", "{good}.none"], "There is no file {good}.none."),
        (["--tls-cert", "{good}.crt", "--tls-key", "{good}.crt"], "The TLS certificate and key cannot be used: "),
        (["--tls-cert", "{bad}", "--tls-key", "{good}.key"], "The TLS certificate and key cannot be used: "),
    ],
)
def test_a_certificate_that_cannot_be_used_stops_the_start_with_a_sentence(
    tmp_path: Path, authority: trustme.CA, options: list[str], sentence: str
) -> None:
    write_pair(tmp_path, authority)
    (tmp_path / "bad").write_text("no certificate")
    words = {"good": tmp_path / "tls", "bad": tmp_path / "bad"}

    done = run_cli("serve", "--data", tmp_path / "data", "--port", "0", *(word.format(**words) for word in options))

    assert (done.returncode, done.stdout) in {(1, b""), (2, b"")}
    shown = done.stderr.decode()
    assert shown.startswith(f"holdall: {sentence.format(**words)}")
    assert shown.count("\n") == 1
