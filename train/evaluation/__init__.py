"""How good weights are, on clips and on untrimmed recordings."""

__all__: list[str] = []
