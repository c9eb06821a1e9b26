"""What people see in a terminal: log lines, the live table, the summary."""

__all__: list[str] = []
