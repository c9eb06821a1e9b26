"""Open random addresses of cameras and compare the hosts and files that are asked for.

Run as `python -m tests.support.address_fuzz CASES LOG` with the library of `tests.support.hooks`
loaded. Exit status 1, with the address, if one of them reaches something else than it shows.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import random
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import ValidationError

from configs import MediaError
from stream.cameras.config import CameraConfig
from stream.ingest.config import SourceConfig
from stream.ingest.connection import SourceFacts, find_facts, open_camera
from tests import ROOT

QUICK = SourceConfig(open_timeout_seconds=0.02, read_timeout_seconds=0.02)

SCHEMES = (
    *("rtsp", "rtsps", "http", "https", "tcp", "udp") * 4,
    *("RTSP", "Http", "file", "FILE", "concat", "subfile", "crypto+http", "ffrtmphttp", "rtmp"),
    *("pipe", "data", "gopher", "async", "cache", "md5", "tee", "lavfi", "httpproxy", "unix", "fd"),
)
HOSTS = (
    *("cam.example", "cam.example.", "CAM.example", "10.0.0.1", "127.0.0.1", "localhost") * 2,
    *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "[::1]", "[fe80::1%25lo]", "::1"),
    *("[::ffff:10.0.0.1]", "xn--mnchen-3ya.example", "münchen.example", "a_b", "-a", "a..b", ""),
    *("a%2eb", "a%00b", "a%0d%0ab", "a b", "a\\b", "a;b", "a|b", "a,b", "@evil.example", "a@b"),
)
USERS = (
    "",
    "",
    "",
    "u:p@",
    "u@",
    ":p@",
    "u%3Ap:q@",
    "u:p@evil.example@",
    "u:a/b@",
    "u:a#b@",
    "u:a?b@",
    "u:%0d%0a@",
    "u:p%40evil@",
    "u:[@",
    "u\\:p@",
    "é:ü@",
)
PORTS = (
    "",
    "",
    "",
    ":80",
    ":554",
    ":8554",
    ":0",
    ":70000",
    ":x",
    ":",
    ":+80",
    ": 80",
    ":80:90",
    ":\uff18\uff10",
)
PATHS = (
    "",
    "/",
    "/live",
    "/a.m3u8",
    "/a.mp4",
    "/a.sdp",
    "/../../etc/passwd",
    "/%2e%2e/etc/passwd",
    "//evil.example/x",
    "/@evil.example/",
    "/\\evil.example",
    "/a|b",
    "/a,b",
    "/a\r\nHost: b",
    "/\x1b[2J",
    "/a b",
    "/" + "a" * 3000,
    "/http://evil.example/",
    "/é",
    "/%00",
)
TAILS = (
    "",
    "",
    "",
    "?a=b",
    "?a=b@c",
    "?listen=1",
    "?listen",
    "?localaddr=10.0.0.9",
    "#x",
    "#@b",
    "?tcp",
    "?x=http://evil.example",
    "?a=%0d%0a",
    ";a=b",
)


def random_address(chance: random.Random, folder: Path) -> str:
    """Return an address from the grammar, or a path with odd characters."""
    if chance.random() < 0.2:
        names = ("a.mp4", "b:c.mp4", "http:x", "concat:a|b", "..", "/etc/passwd", "a\nb", "%d.png")
        return chance.choice(
            [str(folder / chance.choice(names)), "file:" + str(folder / chance.choice(names))]
        )
    separator = chance.choice(("://",) * 12 + (":/", ":", ":///", "//", ":\\\\", "://\t"))
    parts = (SCHEMES, (separator,), USERS, HOSTS, PORTS, PATHS, TAILS)
    return "".join(chance.choice(part) for part in parts)


def expected(camera: CameraConfig) -> tuple[set[str], set[str]]:
    """Return the host and the file that an address shows to a reader."""
    if camera.is_file or camera.kind == "device":
        return set(), {str(Path(camera.url).absolute())}
    host = urlsplit(camera.url).hostname or ""
    local = {"10.0.0.9"} if "localaddr=10.0.0.9" in camera.url else set()  # of this machine
    # The zone of an IPv6 address is shown as %25 and a name, and asked for as % and a number.
    return {host, host.partition("%")[0], _numeric(host), *local}, set()


def _numeric(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return host


def main(cases: int, log: Path) -> int:
    """Try addresses; return 1 at the first one that reaches something else."""
    chance = random.Random(17)
    counts = {"accepted": 0, "refused": 0, "asked": 0}
    descriptor = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    ctypes.CDLL(None).hooks_start(descriptor)
    for _ in range(cases):
        url = random_address(chance, log.parent)
        try:
            camera = CameraConfig.model_validate({"id": "a", "url": url})
        except ValidationError:
            counts["refused"] += 1
            continue
        counts["accepted"] += 1
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        _open(camera)
        asked = os.pread(descriptor, 1 << 20, 0).decode("utf-8", "replace").splitlines()
        counts["asked"] += any(not line.startswith("open") for line in asked)
        if (other := _other(asked, camera)) is not None:
            print(f"{url!r} reaches {other}")
            return 1
    print("\n".join(f"{name} {count}" for name, count in counts.items()))
    return 0


def _open(camera: CameraConfig) -> None:
    facts: SourceFacts | None = None
    try:
        facts = find_facts(camera, QUICK)
    except MediaError:
        facts = None
    try:
        open_camera(camera, QUICK, facts or SourceFacts(camera.is_file, 0.02)).close()
    except MediaError:
        return


def _other(asked: list[str], camera: CameraConfig) -> str | None:
    hosts, files = expected(camera)
    # What programs open by themselves: libraries, the resolver's settings, time zones, our code.
    system = ("/etc/", "/usr/", "/lib", "/proc/", "/sys/", "/dev/", sys.base_prefix, str(ROOT))
    for line in asked:
        what, _, name = line.partition(" ")
        if what == "open":
            if name in files or (name.startswith(system) and name != "/etc/passwd"):
                continue
            return line
        if (
            name.lower().partition("%")[0] not in hosts
            and _numeric(name) not in hosts
            and not _is_same(name, hosts)
        ):
            return line
    return None


def _is_same(name: str, hosts: set[str]) -> bool:
    """Return whether an IP address is what one of the hosts means to `inet_aton`: 127.1."""
    for host in hosts:
        try:
            if socket.inet_ntoa(socket.inet_aton(host)) == name:
                return True
        except OSError:
            continue
    return False


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), Path(sys.argv[2])))
