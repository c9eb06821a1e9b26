"""Read SRT: a program receives the stream, and PyAV reads its packets from a pipe.

Passphrase and stream id are given to the program as a playlist on its standard input, not as
arguments, which every user of the machine could read. What the program writes about errors holds
the address, so only known phrases are looked for in it, and none of it is shown.
"""

from __future__ import annotations

import re
import select
import subprocess
import time
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from av.error import ExitError

from configs import MediaError
from model.media.container import open_container
from model.media.source_rules import SRT, decoder_options
from stream.cameras.config import srt_options
from stream.ingest.config import SourceConfig
from stream.ingest.ffmpeg_program import find_program, start_program

__all__ = ["SrtStream", "explain_output", "open_srt"]

_MAX_MESSAGE_BYTES = 8192
_ANALYSE_MICROSECONDS = 2_000_000
_END_SECONDS = 2.0
_REJECTION = re.compile(r"rejection HS response: ([A-Z]{2,16}:[A-Z0-9]{1,16})")


def open_srt(url: str, config: SourceConfig, read_timeout_seconds: float) -> SrtStream:
    """Open an SRT address; use the answer in a `with` block, which gives the PyAV container.

    Raises:
        MediaError: it cannot be opened within the time, or is not MPEG-TS.
    """
    program = find_program(config)
    options = srt_options(url)
    script = _playlist(url, options, config.open_timeout_seconds)
    try:
        process = start_program(program, _arguments(config), script)
    except OSError as error:
        raise MediaError(f"cannot open: {program} cannot be started: {error.strerror}") from None
    has_passphrase = bool(options.get("passphrase"))
    output = _Output(process, config.open_timeout_seconds, has_passphrase=has_passphrase)
    try:
        live = {"fpsprobesize": "0", "analyzeduration": str(_ANALYSE_MICROSECONDS)}
        container = open_container(output, SRT, max_pixels=config.max_pixels, options=live)
    except BaseException:
        output.end()
        raise
    output.set_patience(read_timeout_seconds)
    return SrtStream(container, output)


class SrtStream:
    """An open SRT address; when the `with` block ends, so does the program."""

    def __init__(self, container: Any, output: _Output) -> None:
        self._container = container
        self._output = output

    def __enter__(self) -> Any:
        return self._container

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the container and end the program."""
        try:
            self._container.close()
        finally:
            self._output.end()


class _Output:
    """What the program writes, as a file that PyAV reads.

    Args:
        open_seconds: maximum time until `set_patience` is called.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], open_seconds: float, *, has_passphrase: bool
    ) -> None:
        self._process = process
        self._has_passphrase = has_passphrase
        self._open_until: float | None = time.monotonic() + open_seconds
        self._patience_seconds = open_seconds
        self._messages = b""
        self._has_read = self._has_failed = False
        assert process.stdout is not None
        assert process.stderr is not None
        self._packets: IO[bytes] = process.stdout
        self._errors: IO[bytes] = process.stderr
        self._poll = select.poll()
        for file in (self._packets, self._errors):
            self._poll.register(file, select.POLLIN)

    def set_patience(self, seconds: float) -> None:
        """Note that the stream is open, and how long each packet may be waited for from now on."""
        self._open_until = None
        self._patience_seconds = seconds

    def read(self, count: int) -> bytes:
        """Return up to `count` bytes as soon as some arrive; nothing at the end.

        Raises:
            ExitError: nothing came in time.
            MediaError: the program ended before anything came; the message says why.
        """
        if self._has_failed:  # PyAV asks again before it raises the first error
            return b""
        until = self._open_until or time.monotonic() + self._patience_seconds
        while (left := until - time.monotonic()) > 0:
            ready = {descriptor for descriptor, _ in self._poll.poll(left * 1000)}
            if self._errors.fileno() in ready:
                self._note_errors()
            if self._packets.fileno() in ready:
                data = self._packets.read(count)
                if not data and not self._has_read:
                    self._has_failed = True
                    raise MediaError(f"cannot open: {self._why_ended()}")
                self._has_read = True
                return data
        self._has_failed = True
        raise ExitError(0, "nothing came in time")

    def end(self) -> None:
        """End the program and close its pipes."""
        self._process.kill()
        self._process.wait()
        self._packets.close()
        self._errors.close()

    def _note_errors(self) -> None:
        data = self._errors.read(4096)
        self._messages = (self._messages + data)[-_MAX_MESSAGE_BYTES:]
        if not data:
            self._poll.unregister(self._errors)

    def _why_ended(self) -> str:
        until = time.monotonic() + _END_SECONDS
        while (left := until - time.monotonic()) > 0:
            if not select.select([self._errors], [], [], left)[0]:
                break
            data = self._errors.read(4096)
            if not data:
                break
            self._messages = (self._messages + data)[-_MAX_MESSAGE_BYTES:]
        return explain_output(
            self._messages.decode(errors="replace"), has_passphrase=self._has_passphrase
        )


def explain_output(messages: str, *, has_passphrase: bool) -> str:
    """Say why the program could not read a stream; no part of its messages is shown.

    Args:
        has_passphrase: whether the address has one.
    """
    if "BADSECRET" in messages or "Incorrect passphrase" in messages:
        return "wrong passphrase; check the option passphrase of the address"
    if "UNSECURE" in messages or "Password required or unexpected" in messages:
        if has_passphrase:
            return "the sender does not encrypt; remove the option passphrase from the address"
        return "the sender wants a passphrase; add the option passphrase to the address"
    if (rejection := _REJECTION.search(messages)) is not None:
        return (
            f"the sender refused the connection ({rejection[1]}); check the option streamid, and"
            " whether the stream is there and has room for another reader"
        )
    if "matches no streams" in messages:
        return "no video stream (sound only, or not a video)"
    if "Invalid data found" in messages:
        return "it is not MPEG-TS over SRT"
    if "Protocol not found" in messages:
        return "the program of source.ffmpeg was built without SRT; name another one"
    if "Connection to" in messages or "resolve" in messages:
        return "nothing answered; check host and port, and that the sender listens (UDP)"
    return "the sender closed the connection before any video came"


def _playlist(url: str, options: dict[str, str], open_timeout_seconds: float) -> str:
    """Return the playlist, in FFmpeg's format `ffconcat`, with one entry and its options."""
    authority = urlsplit(url.partition("?")[0]).netloc
    wanted = {name: value for name, value in options.items() if value and name != "mode"}
    if "latency" in wanted:
        wanted["latency"] = str(int(wanted["latency"]) * 1000)  # FFmpeg takes microseconds
    wanted |= {
        "mode": "caller",
        "connect_timeout": str(max(500, int(open_timeout_seconds * 600))),  # milliseconds
        "fpsprobesize": "0",
        # Its table of streams is all that the program must know of MPEG-TS to hand it on.
        "analyzeduration": "1",
    }
    lines = ["ffconcat version 1.0", f"file {_quoted(f'srt://{authority}')}"]
    lines += [f"option {name} {_quoted(value)}" for name, value in sorted(wanted.items())]
    return "\n".join([*lines, ""])


def _quoted(value: str) -> str:
    """Quote a value of a playlist. It has no control characters: the address was checked."""
    return "'" + value.replace("'", "'\\''") + "'"


def _arguments(config: SourceConfig) -> list[str]:
    rules = {
        "format_whitelist": "concat,mpegts",
        "protocol_whitelist": "pipe,srt",
        "codec_whitelist": "none",
        **decoder_options(config.max_pixels),
    }
    return [
        *("-hide_banner", "-nostats", "-loglevel", "error"),
        *(part for name, value in rules.items() for part in (f"-{name}", value)),
        *("-safe", "0", "-f", "concat", "-i", "pipe:0"),
        *("-map", "0:v", "-c", "copy", "-copyinkf", "-f", "mpegts"),
        *("-muxdelay", "0", "-muxpreload", "0", "-flush_packets", "1", "pipe:1"),
    ]
