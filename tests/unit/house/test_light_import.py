"""`import dpbeam` costs next to nothing: it loads no package of others and few modules of Python's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
MOST_MODULES = 60
"""Three times what typing, importlib and dataclasses bring; packages of others have hundreds."""
NEW = "import json, sys; before = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - before)))"


def loaded(statement: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", NEW.format(statement)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout))


def test_importing_dpbeam_loads_no_package_of_others_and_few_modules() -> None:
    found = loaded("import dpbeam")
    assert "dpbeam" in found
    assert {name.partition(".")[0] for name in found} - sys.stdlib_module_names == {"dpbeam"}
    assert len(found) <= MOST_MODULES


def test_a_package_of_others_would_be_seen() -> None:
    found = loaded("import dpbeam.reporting.certify")
    assert {"pyarrow", "jsonschema"} <= {name.partition(".")[0] for name in found}
    assert len(found) > MOST_MODULES
