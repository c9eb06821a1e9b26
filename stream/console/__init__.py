"""Terminal output for users: log lines, the live table and the summary."""

__all__: list[str] = []
