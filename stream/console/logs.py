"""Set up log lines, as readable text or as one JSON object per line.

JSON lines about one camera contain its id in the field `camera`.
"""

from __future__ import annotations

import json
import logging
import sys

from configs.console import LineHandler, log_handler
from stream.console.config import LogConfig
from stream.events.event import rfc3339

__all__ = ["JsonFormatter", "set_up_logs"]


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object.

    The fields are `time` (RFC 3339, UTC), `level`, `logger` and `message`; `camera` for lines about
    one camera, `worker` for lines of a worker process, and `error` for lines with a traceback.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("camera", "worker"):
            if (value := getattr(record, name, None)) is not None:
                fields[name] = value
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def set_up_logs(config: LogConfig) -> None:
    """Send all log lines of this process to standard error, in the configured format.

    Text lines are coloured and wrapped only in a terminal.
    """
    handler: logging.Handler
    if config.format == "json":
        handler = LineHandler(sys.stderr)
        handler.setFormatter(JsonFormatter())
    else:
        handler = log_handler(sys.stderr)
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
