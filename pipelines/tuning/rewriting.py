"""A policy file with some values changed, and nothing else: every comment, blank and order of keys stays.

Values are put in where the YAML parser says that the old ones stand, so what isn't changed is the same to the byte. A
comment line above says what was changed and why. Who writes the result loads it again: what it says is checked there.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from dpbeam.errors import UsageError
from dpbeam.pipelines.tuning.knobs import Path, Value
from dpbeam.pipelines.tuning.reasons import Change

HEAD = (
    "# Tuned by `dpbeam tune` on other data than this policy's source. Lines below a comment `# tune:` were changed;\n"
    "# what they say follows from that data. Read them, then `dpbeam plan`.\n"
)


PRIVATE_HEAD = (
    "# Tuned by `dpbeam tune --private` on noisy figures that were released and paid for. Lines below a comment\n"
    "# `# tune:` were changed. Read them, then `dpbeam plan`.\n"
)


def rewritten(text: str, changes: Sequence[Change], head: str = HEAD) -> str:
    """The policy's text with these changes, each with its reason above it, below `head`.

    Raises:
        UsageError: the file writes a place in a way that can't be changed by itself.
    """
    root = yaml.compose(text, Loader=yaml.BaseLoader)
    edits: list[tuple[int, int, str]] = []
    for change in changes:
        start, end, new = _edit(_node(root, change.path), change)
        edits.append((start, end, new))
        line = text.rfind("\n", 0, start) + 1
        indent = text[line : line + len(text[line:]) - len(text[line:].lstrip(" "))]
        said = f"{indent}# tune: {change.key} was {written(change.old)}: {change.why}\n"
        edits.append((line, line, said))
    # From the end on, so that places before stay; a comment comes before what it is about, and in the order of changes.
    for _, (start, end, new) in sorted(
        enumerate(edits), key=lambda item: (item[1][0], item[1][1], item[0]), reverse=True
    ):
        text = text[:start] + new + text[end:]
    return head + text


def written(value: Value) -> str:
    """A value as YAML has it."""
    return value if isinstance(value, str) else f"{value:.12g}"


def _edit(node: yaml.Node, change: Change) -> tuple[int, int, str]:
    """(from, to, what to put there)."""
    pair = f"{change.key}: {written(change.new)}"
    if isinstance(node, yaml.ScalarNode) and isinstance(change.path[-1], int):  # a metric by its name alone
        return node.end_mark.index, node.end_mark.index, f": {{{pair}}}"
    if isinstance(node, yaml.MappingNode) and isinstance(change.path[-1], int) and _is_metric(change.path):
        node = node.value[0][1]
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise _unusual(change)
    for key, value in node.value:
        if key.value == change.key:
            if not isinstance(value, yaml.ScalarNode) or value.start_mark.line != value.end_mark.line:
                raise _unusual(change)
            return value.start_mark.index, value.end_mark.index, written(change.new)
    if node.flow_style:
        end = node.value[-1][1].end_mark.index
        return end, end, f", {pair}"
    first = node.value[0][0].start_mark
    return first.index, first.index, f"{pair}\n{' ' * first.column}"


def _is_metric(path: Path) -> bool:
    return len(path) > 1 and path[-2] == "metrics"


def _node(root: yaml.Node, path: Path) -> yaml.Node:
    node = root
    for step in path:
        if isinstance(node, yaml.MappingNode):
            node = next(value for key, value in node.value if key.value == step)
        else:
            node = node.value[step]
    return node


def _unusual(change: Change) -> UsageError:
    where = ".".join(map(str, change.path))
    return UsageError(f"{where}.{change.key} is written in a way that can't be changed by itself; set it to "
                      f"{written(change.new)} by hand")  # fmt: skip
