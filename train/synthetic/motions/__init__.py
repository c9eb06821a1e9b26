"""People: their bodies, poses and motions, alone and in pairs."""

__all__: list[str] = []
