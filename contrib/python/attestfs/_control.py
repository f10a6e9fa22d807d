"""The control socket of the store daemon: one request, one reply.

The protocol is written down in `daemon/DESIGN.md` of the project: frames of JSON behind four bytes of length.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any, Optional, Union

PathLike = Union[str, "os.PathLike[str]"]

VERSION = 2
FRAME_BYTES_MAX = 16 << 20

#: A mount starts the daemon again that it lost, within seconds.
_PATIENCE_SECONDS = 15.0
_PAUSE_SECONDS = 0.1


class AttestfsError(Exception):
    """Why something was not done."""


class NoDaemon(AttestfsError):
    """Nobody serves the state directory."""


class ProtocolError(AttestfsError):
    """Whoever listens there does not speak as this module does."""


class Refused(AttestfsError):
    """The daemon said no."""

    def __init__(self, code: str, message: str, next_step: str | None) -> None:
        super().__init__(message if next_step is None else f"{message}; next: {next_step}")
        #: For programs, such as ``"stage"`` or ``"unknown-mount"``.
        self.code = code
        #: What was wrong, and where.
        self.message = message
        #: What to do about it.
        self.next_step = next_step


def state_directory(state: PathLike | None = None) -> Path:
    """Where the state of this user lies; looks at nothing but the environment and the machine's name."""
    named = state or os.environ.get("ATTESTFS_STATE")
    if named:
        return Path(os.path.abspath(named))
    if os.geteuid() == 0:
        return Path("/var/lib/attestfs")
    home = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):
        user = os.environ.get("HOME", "")
        if not os.path.isabs(user):
            raise AttestfsError("no place for the state: give state=, or set ATTESTFS_STATE or HOME")
        home = os.path.join(user, ".local/state")
    return Path(home, "attestfs", _machine())


def escaped(path: PathLike) -> str:
    """A path as messages spell it: a byte that is no UTF-8 becomes ``\\xHH``, a backslash ``\\\\``."""
    text = os.fsencode(path).decode("utf-8", "surrogateescape").replace("\\", "\\\\")
    return re.sub("[\udc80-\udcff]", lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)


def ask(request: dict[str, Any], expected: str, state: PathLike | None = None) -> Any:
    """Asks the daemon, and gives the value of its reply, which is of the kind ``expected``."""
    with _connect(state_directory(state)) as connection:
        _send(connection, {"version": VERSION, "program": "attestfs for Python"})
        _check_version(_receive(connection))
        _send(connection, {"call": {"id": 1, "request": request}})
        answer = _answer(_receive(connection))
    if answer.get("reply") != expected:
        raise ProtocolError(f"the daemon answered {answer.get('reply')!r} instead of {expected!r}")
    return answer.get("value")


def _connect(state: Path) -> socket.socket:
    deadline = time.monotonic() + (_PATIENCE_SECONDS if state.is_dir() else 0.0)
    while True:
        try:
            return _connect_once(state)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            if time.monotonic() >= deadline:
                message = f"no attestfs daemon serves {state}: is anything mounted there? ('attestfs status')"
                raise NoDaemon(message) from error
        except PermissionError as error:
            raise NoDaemon(f"{state} belongs to another user") from error
        time.sleep(_PAUSE_SECONDS)


def _connect_once(state: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # The name of a socket has room for 107 bytes, a path through its directory's descriptor is short.
        directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{directory}/control.sock")
        finally:
            os.close(directory)
    except BaseException:
        connection.close()
        raise
    return connection


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    if len(body) > FRAME_BYTES_MAX:
        raise ProtocolError(f"a request of {len(body)} bytes: at most {FRAME_BYTES_MAX} are taken")
    try:
        connection.sendall(struct.pack(">I", len(body)) + body)
    except OSError as error:
        raise ProtocolError(f"the daemon ended the connection: {error}") from error


def _receive(connection: socket.socket) -> dict[str, Any]:
    (length,) = struct.unpack(">I", _exactly(connection, 4))
    if length > FRAME_BYTES_MAX:
        raise ProtocolError(f"a frame of {length} bytes: at most {FRAME_BYTES_MAX} are taken")
    try:
        message = json.loads(_exactly(connection, length))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a frame that is no message: {error}") from error
    if not isinstance(message, dict):
        raise ProtocolError("a frame that is no message")
    return message


def _exactly(connection: socket.socket, length: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < length:
        try:
            piece = connection.recv(min(length - len(pieces), 1 << 20))
        except OSError as error:
            raise ProtocolError(f"the daemon ended the connection: {error}") from error
        if not piece:
            raise ProtocolError("the daemon ended the connection in the middle of its answer")
        pieces += piece
    return bytes(pieces)


def _check_version(hello: dict[str, Any]) -> None:
    if "reply" in hello:
        _answer(hello)
    if hello.get("version") != VERSION:
        program = hello.get("program", "the daemon")
        raise ProtocolError(
            f"{program} speaks version {hello.get('version')} of the protocol, this module {VERSION}: "
            "install the module that came with the program"
        )


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    reply = message.get("reply")
    answer = reply.get("answer") if isinstance(reply, dict) else None
    if not isinstance(answer, dict):
        raise ProtocolError("a frame that is no reply")
    refused, done = answer.get("refused"), answer.get("done")
    if isinstance(refused, dict):
        raise Refused(str(refused.get("code")), str(refused.get("message")), refused.get("next_step"))
    if not isinstance(done, dict):
        raise ProtocolError("a reply that says neither yes nor no")
    return done


def _machine() -> str:
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine_id = ""
    names = (name for name in (machine_id, os.uname().nodename) if _is_plain(name))
    return next(names, "unnamed-machine")


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", name) is not None
