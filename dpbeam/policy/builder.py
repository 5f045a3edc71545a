"""A policy in Python: each call says one thing more, and the whole is checked as a policy file is.

What is built are the same plain data that a YAML policy holds, so both have the same rules, the same errors, and for
the same question the same digest: `to_yaml` writes it down.

Guarantee: a builder never changes; each call gives a new one. Of a source in memory only names and types are looked at
until a release is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from dpbeam.errors import UsageError
from dpbeam.queries.source import format_of

if TYPE_CHECKING:
    import pyarrow as pa

    from dpbeam.policy.schema.policy import Policy

_REMEDIES = {
    (
        "privacy_unit",
    ): 'Say unit="person", the column that tells whose row it is; or unit="row", where each is a person.',
    ("columns",): 'Say of which type columns are: columns={"person": "string"}.',
    ("dataset",): "Name the dataset with a-z, 0-9, _ and -, starting with a letter or digit, at most 64 characters.",
    (
        "source",
        "path",
    ): "Give source=… a file, a folder, a pattern such as data/*.parquet, or a list of them.",
    ("run", "epsilon"): "Say epsilon=1.0, or a number from 1e-6 to 1e3; the smaller, the more private.",
    ("run", "delta"): "Say delta=1e-8, or another number well below one over the number of people.",
    ("stages", "group_by"): 'Say .group_by("city"), or .total() for the whole table.',
    ("stages", "partitions"): 'Say .private(), or .public(["a", "b"]) where all that may appear is known beforehand.',
    ("stages", "bounds"): "Say .bounds(l0=20, linf=1): how many partitions one person may touch, and how often each.",
    ("stages", "noise"): 'Say .noise("laplace") or .noise("gaussian").',
    ("stages", "metrics"): "Say .count(), .privacy_id_count(), .sum(…), .mean(…) or another metric.",
}
"""What to do about keys that a file has, and a call says here."""

Noise = Literal["laplace", "gaussian"]
Bound = int | Mapping[str, Any]
"""A bound, or `{"auto": {"max": …}}` for one that the run is to find."""
Clip = float | Mapping[str, Any]
"""A clipping bound, or `{"auto": {}}` for one that the run is to find."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class QueryBuilder:
    """A question under construction, made by `dpbeam.query`. Metrics, partitions, bounds and noise are those of the
    table that the last `group_by` began, or of the whole table before the first.

    Guarantee: how it shows itself has nothing of the rows in it, which a notebook or a log would keep.
    """

    dataset: str
    unit: str
    source: Mapping[str, Any]
    table: Any = None
    """The rows, where they are in memory: a pandas or Polars frame, an Arrow table or dataset."""
    types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    spending: Mapping[str, float] = field(default_factory=dict)
    conditions: tuple[Mapping[str, Any], ...] = ()
    derived: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    stages: tuple[Mapping[str, Any], ...] = ()
    covering: Mapping[str, float] | None = None

    def __repr__(self) -> str:
        tables = ", ".join(str(stage["name"]) for stage in self.stages) or "nothing yet"
        return f"<dpbeam.QueryBuilder of {self.dataset}: {tables}>"

    def columns(
        self, declared: Mapping[str, str | Mapping[str, Any]] | None = None, /, **types: str | Mapping[str, Any]
    ) -> QueryBuilder:
        """Declares columns: a type (`city="string"`), or a mapping with its rules
        (`cost={"type": "float64", "on_null": "fail"}`); also in one mapping by name. Of a source in memory, types are
        known."""
        types = {**(declared or {}), **types}
        stated = {name: {"type": kind} if isinstance(kind, str) else kind for name, kind in types.items()}
        return replace(self, types={**self.types, **stated})

    def spend(self, epsilon: float, delta: float) -> QueryBuilder:
        """The (ε, δ) that one release costs, over everything in it."""
        return replace(self, spending={"epsilon": epsilon, "delta": delta})

    def coverage(self, share: float = 0.02) -> QueryBuilder:
        """Each table says which share of rows counts in it, as noisy figures that cost `share` of its budget."""
        return replace(self, covering={"share": share})

    def where(self, column: str, op: str, value: Any) -> QueryBuilder:
        """Only rows for which `column` `op` `value` holds count; `op` is one of ==, !=, <, <=, >, >=, in, not_in."""
        return replace(self, conditions=(*self.conditions, {"column": column, "op": op, "value": value}))

    def derive(self, /, **made: str | Mapping[str, Any]) -> QueryBuilder:
        """Columns made of others, row by row: an expression (`head="cost / guests"`; docs/expressions.md), or
        `day={"truncate": "at", "to": "day"}`, `band={"bin": "age", "edges": [18, 65]}`, or else what a policy has."""
        stated = {name: {"expression": each} if isinstance(each, str) else each for name, each in made.items()}
        return replace(self, derived={**self.derived, **stated})

    def group_by(self, *keys: str | Sequence[str], name: str | None = None) -> QueryBuilder:
        """Begins a result table with one row for each combination of `keys`; `name` is its name (`by_…`)."""
        names = _names("group_by", keys)
        stage = {"name": name or "by_" + "_".join(key.lower() for key in names), "group_by": names}
        return replace(self, stages=(*self.stages, stage))

    def total(self, *, name: str = "total") -> QueryBuilder:
        """Begins a result table of one row, over the whole table."""
        return replace(self, stages=(*self.stages, {"name": name, "group_by": []}))

    def private(self, strategy: str = "truncated_geometric", *, pre_threshold: int = 1, **more: Any) -> QueryBuilder:
        """Partitions come from the data and are selected privately; `pre_threshold` is the least number of people."""
        stated = {"strategy": strategy, "pre_threshold": pre_threshold, **more}
        if type(pre_threshold) is int and pre_threshold == 1:
            del stated["pre_threshold"]
        return self._changed(partitions={"private": stated})

    def public(
        self,
        values: Sequence[Any] | None = None,
        *,
        product: Mapping[str, Sequence[Any]] | None = None,
        file: str | Path | None = None,
        other: str | int | bool | None = None,
    ) -> QueryBuilder:
        """Partitions are known beforehand, and all are shown: listed, a product of lists, or a file's rows. `other` is
        the label of one more, for all rows whose key isn't listed."""
        stated: dict[str, Any] = {}
        if values is not None:
            stated["values"] = _several("public() takes a list of values", values)
        if product is not None:
            stated["product"] = {
                key: _several("product has a list of values for each key", each) for key, each in product.items()
            }
        if file is not None:
            stated["file"] = str(file)
        if other is not None:
            stated["other"] = other
        return self._changed(partitions={"public": stated})

    def bounds(self, *, l0: Bound | None = None, linf: Bound | None = None, l1: Bound | None = None) -> QueryBuilder:
        """What one person may contribute: at most `l0` partitions and `linf` rows in each; or `l1` rows in all. What
        was said before stays, but for what is said anew."""
        stated = {name: bound for name, bound in (("l0", l0), ("linf", linf), ("l1", l1)) if bound is not None}
        before = self.stages[-1].get("bounds", {}) if self.stages else {}
        return self._changed(bounds={**before, **stated})

    def noise(self, kind: Noise) -> QueryBuilder:
        """The law of the noise of this table's metrics; Gaussian if nothing is said."""
        return self._changed(noise=kind)

    def weight(self, weight: float) -> QueryBuilder:
        """This table's share of the budget, against the other tables'."""
        return self._changed(weight=weight)

    def count(self, **more: Any) -> QueryBuilder:
        """The number of rows."""
        return self.metric("count", **more)

    def count_if(self, column: str, op: str, value: Any, **more: Any) -> QueryBuilder:
        """The number of rows for which `column` `op` `value` holds; `op` as in `where`."""
        return self.metric("count_if", column=column, op=op, value=value, **more)

    def privacy_id_count(self, **more: Any) -> QueryBuilder:
        """The number of people."""
        return self.metric("privacy_id_count", **more)

    def sum(self, column: str, low: Clip | None = None, high: Clip | None = None, **more: Any) -> QueryBuilder:
        """The sum of values clipped to [low, high]; or, with `low_total` and `high_total`, of people's totals."""
        ends = {name: end for name, end in (("low", low), ("high", high)) if end is not None}
        return self.metric("sum", column=column, **ends, **more)

    def mean(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """The mean of values clipped to [low, high]."""
        return self.metric("mean", column=column, low=low, high=high, **more)

    def variance(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """The variance of values clipped to [low, high]."""
        return self.metric("variance", column=column, low=low, high=high, **more)

    def stddev(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """The standard deviation of values clipped to [low, high]."""
        return self.metric("stddev", column=column, low=low, high=high, **more)

    def median(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """The median of values clipped to [low, high]."""
        return self.metric("median", column=column, low=low, high=high, **more)

    def min(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """About the least value, of values clipped to [low, high]."""
        return self.metric("min", column=column, low=low, high=high, **more)

    def max(self, column: str, low: Clip, high: Clip, **more: Any) -> QueryBuilder:
        """About the largest value, of values clipped to [low, high]."""
        return self.metric("max", column=column, low=low, high=high, **more)

    def quantiles(self, column: str, low: Clip, high: Clip, ranks: Sequence[float], **more: Any) -> QueryBuilder:
        """The values below which the parts `ranks` of the rows lie."""
        return self.metric("quantiles", column=column, low=low, high=high, ranks=list(ranks), **more)

    def histogram(self, column: str, edges: Sequence[float], **more: Any) -> QueryBuilder:
        """The number of rows in each interval of `edges`."""
        return self.metric("histogram", column=column, edges=list(edges), **more)

    def distinct_count(self, column: str, **more: Any) -> QueryBuilder:
        """The number of different values."""
        return self.metric("distinct_count", column=column, **more)

    def top_k(self, column: str, k: int, max_values: int, **more: Any) -> QueryBuilder:
        """The `k` most frequent values, one person counting for at most `max_values` of them."""
        return self.metric("top_k", column=column, k=k, max_values=max_values, **more)

    def vector_sum(self, *columns: str | Sequence[str], norm: str, max_norm: float, **more: Any) -> QueryBuilder:
        """The sum of vectors, each scaled down to a `norm` of at most `max_norm`."""
        return self.metric("vector_sum", columns=_names("vector_sum", columns), norm=norm, max_norm=max_norm, **more)

    def custom(self, metric: str, *columns: str, params: Mapping[str, Any] | None = None, **more: Any) -> QueryBuilder:
        """A metric of your own (docs/custom_metrics.md), by the name that it is registered under."""
        stated = {} if params is None else {"params": dict(params)}
        return self.metric("custom", metric=metric, columns=list(columns), **stated, **more)

    def metric(self, kind: str, **arguments: Any) -> QueryBuilder:
        """Any metric that a policy may have, by its name and arguments (docs/policy.md)."""
        table = self if self.stages else self.total()
        return table._changed(metrics=[*table.stages[-1].get("metrics", ()), {kind: arguments}])

    def to_data(self) -> dict[str, Any]:
        """The policy as plain data, as YAML holds it; defaults are filled in.

        Raises:
            UsageError: no ε and δ are stated, or nothing is asked.
        """
        if not self.spending:
            raise UsageError("a query must say what it may cost: .spend(epsilon=1.0, delta=1e-8)")
        if not self.stages:
            raise UsageError("a query must ask something: .group_by(…).count(), say")
        stages = []
        for stated in self.stages:
            stage = {**{k: v for k, v in stated.items() if k != "metrics"}, "metrics": stated.get("metrics", [])}
            stages.append(stage if "noise" in stage or not stage["metrics"] else {**stage, "noise": "gaussian"})
        made: dict[str, Any] = {"version": 1, "dataset": self.dataset, "source": dict(self.source)}
        made |= {"privacy_unit": self.unit, "columns": self._columns(stages)}
        if self.derived:
            made["derive"] = dict(self.derived)
        if self.conditions:
            made["where"] = list(self.conditions)
        if self.covering is not None:
            made["coverage"] = dict(self.covering)
        plain: dict[str, Any] = _plain(made | {"run": dict(self.spending), "stages": stages})
        return plain

    def to_yaml(self) -> str:
        """The same as a policy file, which `dpbeam run` and `dpbeam.load_policy` take."""
        try:
            return str(yaml.safe_dump(self.to_data(), sort_keys=False, allow_unicode=True))
        except yaml.representer.RepresenterError:
            failed = UsageError("a query must be of numbers, texts, dates, lists and mappings to be written as YAML")
        raise failed

    def policy(self) -> Policy:
        """The policy, checked.

        Raises:
            UsageError: see `to_data`.
            PolicyError: all that is wrong, each with its key, value, rule and remedy.
        """
        from dpbeam.policy.load import policy_of

        return policy_of(self.to_data(), remedies=_REMEDIES)

    def rows(self) -> pa.Table | None:
        """The rows in memory, of the declared columns alone; None where the source is files.

        Raises:
            UsageError: the frame can't be made an Arrow table.
        """
        if self.table is None:
            return None
        from dpbeam.policy import frames

        return frames.table_of(self.table, self.to_data()["columns"])

    def _changed(self, **said: Any) -> QueryBuilder:
        table = self if self.stages else self.total()
        return replace(table, stages=(*table.stages[:-1], {**table.stages[-1], **said}))

    def _columns(self, stages: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
        """The declared columns; of those in memory, each that is used and not declared by its own type."""
        if self.table is None:
            return dict(self.types)
        from dpbeam.policy import frames

        used = frames.used(self.unit, stages, self.derived.values(), self.conditions)
        declared = {**frames.types_of(self.table), **self.types}
        frames.check_there(self.table, [name for name in used if name not in self.derived], declared)
        return {name: declared[name] for name in used if name in declared}


def query(
    dataset: str,
    *,
    source: Any,
    unit: str,
    epsilon: float | None = None,
    delta: float | None = None,
    format: str | None = None,
    columns: Mapping[str, str | Mapping[str, Any]] | None = None,
) -> QueryBuilder:
    """Begins a question to the rows of `source`: files (a path, a pattern, or several), or a pandas or Polars frame, an
    Arrow table or dataset. All rows with the same value in the column `unit` are one person's (`"row"`: each row is a
    person of its own). Of files, `columns` says the type of each column that is used.

    Raises:
        UsageError: `source` is neither of these, the format can't be told from the path, or one of ε and δ is missing.
    """
    if (epsilon is None) != (delta is None):
        raise UsageError(
            f"epsilon and delta are stated together, got epsilon={epsilon!r} and delta={delta!r}: say both, such as "
            "epsilon=1.0, delta=1e-8"
        )
    begun = QueryBuilder(dataset=dataset, unit=unit, source=_source(dataset, source, format), table=_in_memory(source))
    begun = begun.columns(columns)
    return begun if epsilon is None or delta is None else begun.spend(epsilon, delta)


def _plain(stated: Any) -> Any:
    """What was stated as YAML holds it, apart from the caller's own lists and mappings; a set in an order of its own,
    so that the same question has the same digest in every process. What YAML lacks stays, for the checks to name."""
    match stated:
        case Mapping():
            return {key: _plain(value) for key, value in stated.items()}
        case list() | tuple():
            return [_plain(value) for value in stated]
        case set() | frozenset():
            return sorted(map(_plain, stated), key=lambda value: (type(value).__name__, repr(value)))
        case Path():
            return str(stated)
    return stated.item() if type(stated).__module__ == "numpy" and getattr(stated, "shape", None) == () else stated


def _names(call: str, stated: Sequence[Any]) -> list[str]:
    """Names, one by one or in a list."""
    names = [name for each in stated for name in (each if isinstance(each, list | tuple) else [each])]
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f'{call} takes names of columns, such as {call}("city"), got {type(name).__name__}')
    return names


def _several(rule: str, values: Any) -> Any:
    if isinstance(values, str | bytes):
        raise UsageError(f'{rule}, got the text {values!r}: write ["…"]')
    return list(values) if isinstance(values, Iterable) and not isinstance(values, set | frozenset) else values


def _in_memory(source: Any) -> Any:
    """The source, if it is rows in memory.

    Raises:
        UsageError: it is neither that nor the path of files; its own text, which may hold rows, isn't shown.
    """
    stated = source if isinstance(source, list | tuple) else [source]
    if stated and all(isinstance(each, str | Path) for each in stated):
        return None
    kind = f"{type(source).__name__} of {type(stated[0]).__name__}" if stated is source and stated else ""
    if hasattr(source, "collect") and hasattr(source, "collect_schema"):
        raise UsageError("source is a lazy frame, whose rows aren't there yet: give source=frame.collect()")
    if source is None or stated is source:
        raise UsageError(
            "source must be the path of files, or several of them in a list; or one frame, Arrow table, record batch "
            f"or dataset, got {kind or type(source).__name__}"
        )
    return source


def _source(dataset: str, source: Any, format: str | None) -> dict[str, Any]:
    if _in_memory(source) is not None:
        from dpbeam.reading import memory

        return {"format": "parquet", "path": memory.path_of(dataset)}
    paths = [str(path) for path in (source if isinstance(source, list | tuple) else [source])]
    expected = {format_of(path) for path in paths}
    if format is None and (len(expected) != 1 or None in expected):
        raise UsageError('the format of the files can\'t be told from their names: say format="csv", "parquet", …')
    return {"format": format or expected.pop(), "path": paths if len(paths) > 1 else paths[0]}
