"""Second looks: frames of an action go to an OpenAI-compatible endpoint, which answers."""

__all__: list[str] = []
