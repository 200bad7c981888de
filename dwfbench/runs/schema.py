"""The JSON Schema of what is stored, made of the types of ``record``: ``python -m dwfbench.runs.schema FILE``."""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from dwfbench.runs.record import Measurement, Study, Written


def schema() -> dict[str, Any]:
    """JSON Schema of a record, a study and a measurement."""
    _, types = msgspec.json.schema_components([Written, Study, Measurement], ref_template="#/$defs/{name}")
    others = types["Settings"]["properties"].pop("others")
    types["Settings"]["additionalProperties"] = others["additionalProperties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Records of dwfbench",
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in ("Written", "Study", "Measurement")],
        "$defs": types,
    }


def schema_text() -> str:
    """The content of docs/record.schema.json."""
    return json.dumps(schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
