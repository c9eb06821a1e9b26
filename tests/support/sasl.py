"""A proxy that asks for a login as a Kafka broker does: SASL PLAIN and SCRAM (RFC 5802).

It stands in front of a broker that asks for none. The messages are those of
https://kafka.apache.org/protocol: SaslHandshake 1, SaslAuthenticate 0 to 2.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import hashlib
import hmac
import socket
import ssl
import struct

from tests.support.broker import Proxy

_HANDSHAKE = 17
_API_VERSIONS = 18
_AUTHENTICATE = 36
_UNSUPPORTED_MECHANISM = 33
_AUTHENTICATION_FAILED = 58
_ITERATIONS = 4096


class SaslProxy(Proxy):
    """Forwards a connection once it has logged in.

    Args:
        users: the password of each user.
        mechanism: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    """

    def __init__(
        self,
        upstream_port: int,
        port: int,
        *,
        users: dict[str, str],
        mechanism: str,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._users = users
        self._mechanism = mechanism
        self.logins: collections.Counter[str] = collections.Counter()
        super().__init__(upstream_port, port, tls)

    def is_let_in(self, client: socket.socket, server: socket.socket) -> bool:
        """Answer requests until the login is done; before that only versions can be asked for."""
        login = self._new_login()
        client.settimeout(5)
        with contextlib.suppress(OSError, struct.error):
            while not login.is_done:
                request = _receive(client)
                key, version, correlation, name_length = struct.unpack_from(">hhih", request)
                body = request[10 + max(0, name_length) :]
                if key == _API_VERSIONS:
                    _send(server, request)
                    _send(client, _receive(server))
                elif key == _HANDSHAKE:
                    _send(client, self._handshake(correlation, body))
                elif key == _AUTHENTICATE:
                    if not self._authenticate(client, login, correlation, version, body):
                        return False
                else:
                    self.logins["without login"] += 1
                    return False
        self.logins["let in"] += login.is_done
        client.settimeout(None)
        return login.is_done

    def _new_login(self) -> _Plain | _Scram:
        if self._mechanism == "PLAIN":
            return _Plain(self._users)
        return _Scram(self._users, self._mechanism)

    def _handshake(self, correlation: int, body: bytes) -> bytes:
        mechanism = self._mechanism.encode()
        error = 0 if body[2:] == mechanism else _UNSUPPORTED_MECHANISM
        return struct.pack(">ihih", correlation, error, 1, len(mechanism)) + mechanism

    def _authenticate(
        self,
        client: socket.socket,
        login: _Plain | _Scram,
        correlation: int,
        version: int,
        body: bytes,
    ) -> bool:
        """Answer one message of the login; returns whether it was accepted."""
        token = _token(body, version)
        try:
            answer = login.answer(token)
        except PermissionError:
            self.logins["refused"] += 1
            said = b"not let in: " + token.replace(b"\0", b" ")  # as careless brokers do
            _send(client, _authenticated(correlation, version, _AUTHENTICATION_FAILED, b"", said))
            return False
        _send(client, _authenticated(correlation, version, 0, answer))
        return True


class _Plain:
    """RFC 4616: one message with user and password."""

    def __init__(self, users: dict[str, str]) -> None:
        self._users = users
        self.is_done = False

    def answer(self, token: bytes) -> bytes:
        _, user, password = token.decode().split("\0")
        if self._users.get(user) != password:
            raise PermissionError
        self.is_done = True
        return b""


class _Scram:
    """RFC 5802: the server's side of the exchange."""

    def __init__(self, users: dict[str, str], mechanism: str) -> None:
        self._users = users
        self._hash = mechanism.removeprefix("SCRAM-").lower().replace("-", "")
        self._first = ""
        self._nonce = ""
        self._salted = b""
        self.is_done = False

    def answer(self, token: bytes) -> bytes:
        message = token.decode()
        return self._answer_proof(message) if self._first else self._answer_name(message)

    def _answer_name(self, message: str) -> bytes:
        bare = message.removeprefix("n,,")
        fields = dict(part.split("=", 1) for part in bare.split(","))
        salt = b"a salt of the tests"
        self._nonce = fields["r"] + "theirs"
        self._salted = hashlib.pbkdf2_hmac(
            self._hash, self._users.get(fields["n"], "").encode(), salt, _ITERATIONS
        )
        answer = f"r={self._nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
        self._first = f"{bare},{answer}"
        return answer.encode()

    def _answer_proof(self, message: str) -> bytes:
        without_proof, proof = message.rsplit(",p=", 1)
        said = f"{self._first},{without_proof}".encode()
        client_key = hmac.digest(self._salted, b"Client Key", self._hash)
        signature = hmac.digest(hashlib.new(self._hash, client_key).digest(), said, self._hash)
        expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        if base64.b64decode(proof) != expected or f"r={self._nonce}" not in without_proof:
            raise PermissionError
        self.is_done = True
        server_key = hmac.digest(self._salted, b"Server Key", self._hash)
        return b"v=" + base64.b64encode(hmac.digest(server_key, said, self._hash))


def _receive(end: socket.socket) -> bytes:
    (length,) = struct.unpack(">i", _exactly(end, 4))
    return _exactly(end, length)


def _exactly(end: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = end.recv(length - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return data


def _send(end: socket.socket, message: bytes) -> None:
    end.sendall(struct.pack(">i", len(message)) + message)


def _token(body: bytes, version: int) -> bytes:
    if version < 2:
        return body[4:]
    # Header tags, length as a varint of one or two bytes (up to 16,383), token, body tags.
    return body[2 if body[1] < 128 else 3 : -1]


def _authenticated(
    correlation: int, version: int, error: int, answer: bytes, said: bytes | None = None
) -> bytes:
    """Return the answer to a message of a login; `said` is the text that explains an error."""
    if version < 2:
        text = struct.pack(">h", -1) if said is None else struct.pack(">h", len(said)) + said
        lifetime = b"" if version == 0 else bytes(8)
        head = struct.pack(">ih", correlation, error)
        return head + text + struct.pack(">i", len(answer)) + answer + lifetime
    text = b"\0" if said is None else _varint(len(said) + 1) + said
    head = struct.pack(">ibh", correlation, 0, error)
    return head + text + _varint(len(answer) + 1) + answer + bytes(8) + b"\0"


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 + 128, number // 128])
