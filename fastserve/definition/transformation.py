"""What the views of a batch or stream job do to their rows; kept in the registry for that job."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import timedelta

__all__ = ["Aggregation", "TransformationMode", "mode_text"]


class TransformationMode(str, enum.Enum):
    """The language of a view's function."""

    PYTHON = "python"
    PANDAS = "pandas"
    SPARK_SQL = "spark_sql"
    SPARK = "spark"
    FLINK = "flink"
    RAY = "ray"
    SQL = "sql"
    SUBSTRAIT = "substrait"


def mode_text(mode: TransformationMode | str | None) -> str:
    """Return a mode as the registry has it; None is ""."""
    return mode.value if isinstance(mode, TransformationMode) else mode or ""


@dataclass
class Aggregation:
    """One column of a windowed aggregation: `Aggregation("amount", "sum", timedelta(hours=1))`.

    Args:
        column: the column that is aggregated.
        function: such as "sum" or "count".
        time_window: over how long; None is without a window.
        slide_interval: how often; without it, the window.
        name: of the feature; without it, function and column make the name.
    """

    column: str | None = ""
    function: str | None = ""
    time_window: timedelta | None = None
    slide_interval: timedelta | None = None
    name: str | None = ""

    def __post_init__(self) -> None:
        self.column = self.column or ""
        self.function = self.function or ""
        self.name = self.name or ""
        self.slide_interval = self.slide_interval or self.time_window
