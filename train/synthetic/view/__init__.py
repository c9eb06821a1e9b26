"""What a camera sees of a scene: rooms, furniture, people, lenses and light."""

__all__: list[str] = []
