"""The receiver that docs/how-to/sinks.md shows runs, verifies and drops repetitions."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stream.sinks.delivery import Undelivered
from stream.sinks.webhook import WebhookDelivery
from stream.sinks.webhook_config import WebhookConfig
from tests import ROOT
from tests.support.broker import free_port, wait_until_listening
from tests.support.stored_events import stored_events
from tests.support.waiting import until

PAGE = (ROOT / "docs/how-to/sinks.md").read_text(encoding="utf-8")
SECRET, OTHER = ("whsec_" + base64.b64encode(byte * 32).decode() for byte in (b"a", b"b"))
NEVER = threading.Event()


def test_the_receiver_of_the_documentation_works(tmp_path: Path) -> None:
    [program] = re.findall(r"<!-- a test runs this program -->\n```python\n(.*?)```", PAGE, re.S)
    port = free_port()
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "SECRET": SECRET, "PORT": str(port)},
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until_listening(port, process)
            settings = {"name": "a", "url": f"http://127.0.0.1:{port}/", "allow_private": True}
            for secret, count in ((SECRET, 1), (SECRET, 5)):
                config = settings | {"secret": secret, "max_batch_events": count}
                sent = WebhookDelivery(WebhookConfig.model_validate(config))
                sent.deliver(stored_events(count), NEVER)
                sent.close()
            wrong = WebhookDelivery(WebhookConfig.model_validate(settings | {"secret": OTHER}))
            with pytest.raises(Undelivered) as raised:
                wrong.deliver(stored_events(1, first=9), NEVER)
            wrong.close()
            assert raised.value.reason == "login"
            assert until(lambda: output.read_bytes().count(b"\n") == 5)
        finally:
            process.kill()
            process.wait()
    printed = [json.loads(line)["sequence"] for line in output.read_text().splitlines()]
    assert printed == [1, 2, 3, 4, 5]


def test_the_page_names_every_reason() -> None:
    """A reason is a label of a metric; the page says what each means."""
    sources = "".join(
        (ROOT / "stream/sinks" / name).read_text()
        for name in ("webhook.py", "mqtt.py", "mqtt_connection.py")
    )
    reasons = set(re.findall(r'(?:Undelivered|Refused|Gone)\(\s*"(\w+)"', sources))
    reasons |= set(re.findall(r'return "(\w+)", f?"', sources))
    codes = (ROOT / "stream/sinks/mqtt_reasons.py").read_text()
    reasons |= set(re.findall(r'\("(\w+)", f?"', codes))
    assert {"timeout", "login", "redirect", "taken_over"} <= reasons
    section = PAGE[PAGE.index("## When a sink fails") :]
    missing = {each for each in reasons if f"`{each}`" not in section}
    assert missing <= {"stopping"}
