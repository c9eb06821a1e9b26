"""Several worker processes on one machine, one per device, behind one HTTP address."""

__all__: list[str] = []
