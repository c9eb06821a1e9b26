"""The networks of the ablations: each table row uses one network; several rows may share one."""

from __future__ import annotations

from pydantic import ValidationError

from configs import ConfigError
from model.network import ModelConfig
from train.ablations.config import AblationConfig
from train.ablations.paper_tables import PAPER_TABLES, PaperRow

__all__ = ["backbone_name", "model_of", "variants"]


def variants(config: AblationConfig) -> dict[str, ModelConfig]:
    """Return the distinct networks of the configured tables, by name.

    A network is named after the first row that uses it, counted over all tables. So its name does
    not depend on the tables that are configured.

    Raises:
        ConfigError: a network of a configured table cannot be built with the run's settings.
    """
    found: dict[str, ModelConfig] = {}
    wanted: set[str] = set()
    for key, table in PAPER_TABLES.items():
        for row in table.rows:
            try:
                model = model_of(row, config)
            except ValidationError as error:
                if key not in config.tables:
                    continue
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ConfigError(
                    f"tables: {key} has the network {row.name}, which run.model does not allow:"
                    f" {reason}"
                ) from None
            own_name = row.name.replace(",", "").replace(" ", "-").lower()
            name = next((name for name, other in found.items() if other == model), own_name)
            found.setdefault(name, model)
            if key in config.tables:
                wanted.add(name)
    return {name: model for name, model in found.items() if name in wanted}


def backbone_name(model: ModelConfig, config: AblationConfig) -> str:
    """Return the name of the run that trains the backbone of a network with average pooling."""
    if model.backbone_facts == config.run.model.backbone_facts:
        return "backbone"
    non_local = "-nl" if model.non_local else ""
    return f"backbone-{model.backbone}-{model.depth}{non_local}"


def model_of(row: PaperRow, config: AblationConfig) -> ModelConfig:
    """Return the network that a row of a table describes."""
    full = config.run.model
    assert full.cidc is not None  # AblationConfig has checked this
    cidc = None if row.cidc is None else {**full.cidc.model_dump(), **row.cidc}
    return ModelConfig.model_validate({**full.model_dump(), **row.model, "cidc": cidc})
