"""Which cameras there are, their settings and states, and who watches over them."""

__all__: list[str] = []
