"""Training and evaluation: `python -m train`."""

from cidc_programs import check_packages

__all__: list[str] = []

check_packages(__file__, "configs", "model")
