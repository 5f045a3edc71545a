"""Starts the main job the Beam way: `python -m dpbeam.pipelines.aggregate --policy … --runner …` is `dpbeam run`."""

from __future__ import annotations

from dpbeam.pipelines.cli.main import aggregate_main

if __name__ == "__main__":
    aggregate_main()
