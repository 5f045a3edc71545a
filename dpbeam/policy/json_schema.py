"""The JSON Schema of a policy file, as policy.schema.json holds it for editors.

`python -m dpbeam.policy.json_schema` writes that file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dpbeam.policy.schema.policy import Policy

FILE = Path(__file__).with_name("policy.schema.json")


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a policy file, for editors; `load_policy` checks more than it can say."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "dpbeam policy, version 1"}
    made: dict[str, Any] = _untitled(Policy.model_json_schema(mode="validation"))
    return head | made


def write_json_schema(path: Path = FILE) -> None:
    """Writes `json_schema` to a file, as it is committed."""
    path.write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _untitled(schema: Any) -> Any:
    """Without pydantic's titles, which say no more than the keys."""
    if isinstance(schema, dict):
        return {key: _untitled(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    return [_untitled(value) for value in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    write_json_schema()
