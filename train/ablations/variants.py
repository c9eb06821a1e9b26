"""The networks of the ablations: each table row uses one network; several rows may share one."""

from __future__ import annotations

from model.network import ModelConfig
from train.ablations.config import AblationConfig
from train.ablations.paper_tables import PAPER_TABLES, PaperRow

__all__ = ["model_of", "variants"]


def variants(config: AblationConfig) -> dict[str, ModelConfig]:
    """Return the distinct networks of the configured tables, by name.

    A network is named after the first row that uses it, counted over all tables. So its name does
    not depend on the tables that are configured.
    """
    found: dict[str, ModelConfig] = {}
    wanted: set[str] = set()
    for key, table in PAPER_TABLES.items():
        for row in table.rows:
            model = model_of(row, config)
            own_name = row.name.replace(",", "").replace(" ", "-").lower()
            name = next((name for name, other in found.items() if other == model), own_name)
            found.setdefault(name, model)
            if key in config.tables:
                wanted.add(name)
    return {name: model for name, model in found.items() if name in wanted}


def model_of(row: PaperRow, config: AblationConfig) -> ModelConfig:
    """Return the network that a row of a table describes."""
    full = config.run.model
    assert full.cidc is not None  # AblationConfig has checked this
    cidc = None if row.cidc is None else {**full.cidc.model_dump(), **row.cidc}
    return ModelConfig.model_validate({**full.model_dump(), **row.model, "cidc": cidc})
