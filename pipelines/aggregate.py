"""Starts the main job the Beam way: `python -m dpbeam.pipelines.aggregate --policy … --runner …` is `dpbeam run`."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from dpbeam.pipelines.cli import streams
from dpbeam.pipelines.cli.ending import Ending
from dpbeam.pipelines.cli.main import invoke


def main() -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m dpbeam.pipelines.aggregate", allow_abbrev=False)
    parser.add_argument("--policy", required=True, help="the policy file, YAML")
    known, rest = parser.parse_known_args()
    ending = Ending()
    streams.settle()
    sys.exit(ending.by(invoke(["run", known.policy, *rest])))


if __name__ == "__main__":
    main()
