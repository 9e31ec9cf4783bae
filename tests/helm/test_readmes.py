"""The READMEs' tables are those of values.yaml, and the schemas know the same values."""

import json

import pytest

from tests.helm._tables import CHARTS, HELM, rows, with_table

charts = pytest.mark.parametrize("chart", CHARTS)


@charts
def test_tables(chart: str) -> None:
    found, wanted = with_table(chart)
    assert found == wanted, "python -m tests.helm._tables writes them"


@charts
def test_every_value_has_a_schema(chart: str) -> None:
    """And none is in the schema that does not exist."""
    schema = json.loads((HELM / chart / "values.schema.json").read_text())
    for key, _, _ in rows((HELM / chart / "values.yaml").read_text()):
        at = schema
        for part in key.split("."):
            assert part in at.get("properties", {}), f"{key} is not in {chart}/values.schema.json"
            at = at["properties"][part]
