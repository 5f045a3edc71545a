"""PipelineDP's queries on data frames, pandas' and Beam's, answered by our engine.

    query = (QueryBuilder(df, "visitor_id")
             .groupby("day", max_groups_contributed=3, max_contributions_per_group=1)
             .count().sum("spent_money", min_value=0, max_value=100).mean("spent_money").build_query())
    result = query.run_query(Budget(epsilon=1, delta=1e-10), noise_kind=pipeline_dp.NoiseKind.GAUSSIAN)

PipelineDP 0.3.1 itself runs them on Spark frames alone; those are refused here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import pipeline_dp

from dpbeam.adapters.pipelinedp.dataframe_query import Aggregation, Budget, Groups, Query, is_deferred, is_pandas
from dpbeam.errors import UsageError

__all__ = ["Budget", "Query", "QueryBuilder"]


class QueryBuilder:
    """Builds a query, call by call; each but `build_query` returns the builder.

    Args:
        df: a pandas or a Beam data frame.
        privacy_unit_column: the column that tells whose row it is.

    Raises:
        UsageError: another kind of frame, no such column, or two columns of one name.
    """

    def __init__(self, df: Any, privacy_unit_column: str) -> None:
        if not is_pandas(df) and not is_deferred(df):
            kind = type(df)
            raise UsageError(
                f"df must be a pandas or an Apache Beam data frame, got {kind.__module__}.{kind.__qualname__}; write "
                "the rows of another to Parquet, for a policy to read or for apache_beam.dataframe.io.read_parquet"
            )
        names = list(df.columns)
        if len(set(names)) != len(names):
            raise UsageError("df must have no two columns of one name: which of them is meant can't be told")
        self._df, self._names = df, names
        self._unit = self._known(privacy_unit_column)
        self._groups: Groups | None = None
        self._aggregations: list[Aggregation] = []

    def groupby(
        self,
        by: str | Sequence[str],
        *,
        max_groups_contributed: int,
        max_contributions_per_group: int,
        public_keys: Collection[Any] | None = None,
        column: Any = None,
    ) -> QueryBuilder:
        """Groups the rows by one column or several.

        One unit counts in at most `max_groups_contributed` groups, and with at most `max_contributions_per_group` rows
        in each, chosen at random. With `public_keys` (of several columns: tuples) exactly those groups are shown;
        without, groups are selected privately.

        Raises:
            UsageError: called twice, no such column, or `column`, which PipelineDP refuses too.
        """
        if column is not None:
            raise UsageError("column isn't taken any more, as in PipelineDP: give it as by")
        if self._groups is not None:
            raise UsageError("groupby must be called once: name all columns in one list")
        names = [by] if isinstance(by, str) else by
        if not isinstance(names, Sequence) or not names:
            raise UsageError(f"by must be the name of a column, or a list of names, got {type(by).__name__}")
        self._groups = Groups(
            columns=tuple(map(self._known, names)),
            one=isinstance(by, str),
            most_groups=max_groups_contributed,
            most_rows=max_contributions_per_group,
            public=public_keys,
        )
        return self

    def count(self, name: str | None = None) -> QueryBuilder:
        """Adds the number of rows, as column `name` (count)."""
        return self._add(Aggregation(metric=pipeline_dp.Metrics.COUNT, name=name or "count"))

    def sum(
        self,
        column: str,
        *,
        min_value: float | None = None,
        max_value: float | None = None,
        name: str | None = None,
    ) -> QueryBuilder:
        """Adds the sum of a column whose values are clamped to [min_value, max_value], as column `name` (sum)."""
        metric = pipeline_dp.Metrics.SUM
        return self._add(
            Aggregation(metric=metric, name=name or "sum", column=self._known(column), low=min_value, high=max_value)
        )

    def mean(
        self,
        column: str,
        *,
        min_value: float | None = None,
        max_value: float | None = None,
        name: str | None = None,
    ) -> QueryBuilder:
        """Adds the mean of a column whose values are clamped to [min_value, max_value], as column `name` (mean)."""
        metric = pipeline_dp.Metrics.MEAN
        return self._add(
            Aggregation(metric=metric, name=name or "mean", column=self._known(column), low=min_value, high=max_value)
        )

    def build_query(self) -> Query:
        """The query.

        Raises:
            UsageError: no groups or nothing to compute; values of two columns, without bounds or with two pairs of
                bounds; or two columns of the result would have one name.
        """
        if self._groups is None:
            raise UsageError("groupby must be called first: a table that is one group is for a policy without group_by")
        if not self._aggregations:
            raise UsageError("there is nothing to compute: call count, sum or mean")
        columns = {each.column for each in self._aggregations if each.column is not None}
        if len(columns) > 1:
            raise UsageError(f"sum and mean must be of one column, got {', '.join(sorted(columns))}")
        low, high = self._bounds(needed=bool(columns))
        names = [*self._groups.columns, *(each.name for each in self._aggregations)]
        if len(set(names)) != len(names):
            raise UsageError(f"each column of the result needs a name of its own, got {', '.join(names)}")
        return Query(
            df=self._df,
            unit=self._unit,
            groups=self._groups,
            value=next(iter(columns), None),
            aggregations=tuple(replace(each, low=low, high=high) for each in self._aggregations),
        )

    def _add(self, aggregation: Aggregation) -> QueryBuilder:
        if self._groups is None:
            raise UsageError("groupby must be called first: a table that is one group is for a policy without group_by")
        if any(known.metric == aggregation.metric for known in self._aggregations):
            raise UsageError(f"{aggregation.metric.name.lower()} must be called once")
        self._aggregations.append(aggregation)
        return self

    def _known(self, column: Any) -> str:
        if not isinstance(column, str):
            raise UsageError(f"a column must be named by text, got {type(column).__name__}: rename df's columns first")
        if column not in self._names:
            raise UsageError(f"df must have the column {column!r}")
        return column

    def _bounds(self, *, needed: bool) -> tuple[float | None, float | None]:
        if not needed:
            return None, None
        lows = {each.low for each in self._aggregations} - {None}
        highs = {each.high for each in self._aggregations} - {None}
        if len(lows) != 1 or len(highs) != 1:
            raise UsageError("sum and mean need one min_value and one max_value: give both once, or the same each time")
        return lows.pop(), highs.pop()
