"""Find cameras in the network (ONVIF), and describe them as cameras of a pipeline."""

__all__: list[str] = []
