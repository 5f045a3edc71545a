"""What the models say is wrong with single fields, as findings with remedies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dpbeam.policy.metrics import ARGUMENTS
from dpbeam.policy.metrics.top_k import MAX_K
from dpbeam.policy.schema import auto, derive, metrics
from dpbeam.policy.schema import policy as schema
from dpbeam.policy.schema.rules import Replace
from dpbeam.policy.violations import ABSENT, Finding, Key, closest
from dpbeam.queries.metrics import KINDS
from dpbeam.queries.selections import MAX_ROUNDS
from dpbeam.queries.source import FORMATS
from dpbeam.reading.vectors import MAX_LENGTH

_ANY = "*"

# Where each model stands in a policy: for the names that may be meant by an unknown key.
_MODELS: Mapping[tuple[str, ...], tuple[type[BaseModel], ...]] = {
    (): (schema.Policy,),
    ("source",): (schema.Source,),
    ("source", "pre_aggregated"): (schema.PreAggregated,),
    ("columns", _ANY): (schema.ColumnRules,),
    **{("columns", _ANY, rule): (Replace,) for rule in ("on_null", "on_nan", "on_inf", "on_invalid")},
    ("derive", _ANY): get_args(derive.DeriveEntry),
    **{("derive", _ANY, rule): (Replace,) for rule in ("on_null", "on_invalid")},
    ("where", _ANY): (schema.Where,),
    ("budget",): (schema.Budget,),
    ("run",): (schema.Run,),
    ("guardrails",): (schema.Guardrails,),
    ("coverage",): (schema.CoverageBought,),
    ("stages", _ANY): (schema.Stage,),
    ("stages", _ANY, "partitions"): (schema.Partitions,),
    ("stages", _ANY, "partitions", "private"): (schema.Private,),
    ("stages", _ANY, "partitions", "public"): (schema.Public,),
    ("stages", _ANY, "bounds"): (schema.Bounds,),
    ("stages", _ANY, "metrics", _ANY): (metrics.MetricChoice,),
    **{("stages", _ANY, "metrics", _ANY, kind): (model,) for kind, model in ARGUMENTS.items()},
    ("stages", _ANY, "bounds", _ANY): (auto.AutoCount,),
    ("stages", _ANY, "bounds", _ANY, "auto"): (auto.CountSearch,),
    ("stages", _ANY, "metrics", _ANY, _ANY, _ANY): (auto.AutoClip,),
    ("stages", _ANY, "metrics", _ANY, _ANY, _ANY, "auto"): (auto.ClipSearch,),
    ("output",): (schema.Output,),
}

# After which keys names stand that the policy's writer gave.
_NAMED = (("columns",), ("derive",), ("derive", _ANY, "values"), ("stages", _ANY, "partitions", "public", "product"))
_PARAMS = ("stages", _ANY, "metrics", _ANY, _ANY, "params")

# What to do about a bad or missing value, by the name of its key.
REMEDIES: Mapping[str, str] = {
    "path": "Write one file, a folder, a pattern such as data/*.parquet, or a list of them.",
    "version": "Write version: 1; a higher one needs a newer dpbeam.",
    "dataset": "Name it with a-z, 0-9, _ and -, starting with a letter or digit, at most 64 characters.",
    "source": "Write source: {format: csv, path: data.csv}.",
    "format": f"Write {', '.join(FORMATS)}.",
    "fingerprint": "Write times (names, sizes, times of change) or content (the bytes, for one more read of them).",
    "quoted_newlines": "Write false if no value holds a line break, so that big files are read in parallel; else true.",
    "compression": "Write auto (by the file's suffix), none, gzip, bz2, zstd or xz.",
    "path_columns": "List the columns that stand in the path as folders name=value: [year, month].",
    "pre_aggregated": "Write {count: COLUMN}: the column that says how many rows a row stands for.",
    "field": "Name the column in the source, or the path to it: address.city or [address, city].",
    "delimiter": 'Write one ASCII character, such as "," or "\\t".',
    "privacy_unit": "Name the column that tells whose row it is, or write row where each row is a person of its own.",
    "columns": "List the columns to read: columns: {author_id: {type: string}}.",
    "replace": "Give a value of the column's type; NaN and infinity can't stand in for anything.",
    "derive": "Write derive: {age_band: {bin: age, edges: [18, 65]}}, or leave the key out.",
    "bin": "Name an int64 or float64 column.",
    "truncate": "Name a date or timestamp column.",
    "lower": "Name a string column.",
    "expression": 'Write it as in "cost / guests" or "upper(trim(city))"; docs/expressions.md says what there is.',
    "lookup": "Name the column whose value is looked up.",
    "table": "Name a CSV or Parquet file that is public and has each key once.",
    "key": "Name the table's column that has the values looked up, or leave the key out if it has the same name.",
    "where": 'List conditions: [{column: age, op: ">=", value: 18}], or leave the key out.',
    "value": "Give text, a number, true or false; for in and not_in a list of them.",
    "budget": "Write budget: {epsilon: 10, delta: 1e-6}, or leave the key out.",
    "guardrails": "Write guardrails: {max_epsilon_per_run: 2}, or leave the key out.",
    "coverage": "Write coverage: {share: 0.02}, or leave the key out.",
    "share": "Give a part of the stage's budget, above 0 and below 1, such as 0.02.",
    "min_coverage": "Give a share of rows, above 0 and below 1, such as 0.5, or leave the key out.",
    "output": "Write output: {path: releases}, or leave the key out.",
    "type": "Write string, int64, float64, bool, date, timestamp or vector.",
    "length": f"Say how many numbers each row's list has, from 1 to {MAX_LENGTH}.",
    "on_null": "Write drop, fail or {replace: VALUE}.",
    "on_nan": "Write drop, fail or {replace: VALUE}.",
    "on_inf": "Write drop, fail or {replace: VALUE}.",
    "on_invalid": "Write drop, fail or {replace: VALUE}.",
    "trim": "Write true to take white space off both ends of text before it is read, or leave the key out.",
    "run": "Write run: {epsilon: 1, delta: 1e-8}: what one run may spend.",
    "epsilon": "Give a number from 1e-6 to 1e6 (of a run to 1e3), such as 1; the smaller, the more private.",
    "delta": "Give a small number above 0 and below 1, such as 1e-8: well below one over the number of people.",
    "max_epsilon_per_run": "Give a number from 1e-6 to 1e6, or leave the key out.",
    "max_delta_per_run": "Give a number above 0 and below 1, or leave the key out.",
    "min_pre_threshold": "Give a whole number of at least 1, or leave the key out.",
    "meter": "Write basic, zcdp or gdp.",
    "stages": "List at least one stage.",
    "name": "Name it with a-z, 0-9 and _, starting with a letter, at most 64 characters.",
    "group_by": "List the columns whose values make the partitions: group_by: [ngram]; [] for the whole table.",
    "partitions": "Write {private: {strategy: truncated_geometric}} or {public: {values: [a, b]}}.",
    "strategy": "Write truncated_geometric, laplace_thresholding, gaussian_thresholding, dp_sips, mad or mad2r.",
    "rounds": f"Give a whole number from 1 to {MAX_ROUNDS}, or leave the key out for 3.",
    "hierarchical": "Write true where group_by goes from coarse to fine, or leave the key out.",
    "pre_threshold": "Give the least number of people a partition needs, 1 or more.",
    "public": "Write {values: [a, b]}, {product: {sex: [f, m], band: [a, b]}} or {file: partitions.csv}.",
    "other": "Give a label for all that isn't listed, of the key's type; of private partitions write true.",
    "private": "Write {strategy: truncated_geometric, pre_threshold: 10}.",
    "values": "List the values of the key: [a, b]; with several keys, one list a partition: [[a, 1], [b, 2]].",
    "product": "List the values of each key: {sex: [f, m], band: [a, b]}.",
    "file": "Name a CSV or Parquet file whose columns are those of group_by.",
    "bounds": "Write bounds: {l0: 20, linf: 1}: how many partitions one person may touch, and how often each.",
    "l0": "Say how many partitions one person may count in; with more of them the noise grows.",
    "l1": "Say how many rows one person may count with in all; with more of them the noise grows.",
    "low_total": "Give the least that one person's rows in a partition may add up to; a lower total is raised to it.",
    "high_total": "Give the most that one person's rows in a partition may add up to; a higher total is lowered to it.",
    "linf": "Say how many rows one person may add to one partition; with more of them the noise grows.",
    "metrics": "List at least one of count, privacy_id_count, {sum: …} and {mean: …}; [] for the kept keys alone.",
    "column": "Name a column that stands under columns.",
    "low": "Give the least value one row may count for, between -1e15 and 1e15; values below are raised to it.",
    "high": "Give the greatest value one row may count for, between -1e15 and 1e15; values above are lowered to it.",
    "noise": "Write laplace or gaussian.",
    "weight": "Give a number from 1e-6 to 1e6; twice the weight gets about half the noise.",
    "ranks": "List parts of the rows between 0 and 1, in rising order: [0.25, 0.5, 0.75].",
    "norm": "Write l1, l2 or linf: what of a row's vector is bounded.",
    "max_norm": "Give the greatest norm that one row's vector may count for; longer ones are scaled down.",
    "k": f"Say how many values to show, from 1 to {MAX_K}.",
    "max_values": "Say for how many values one person may count in a partition; with more of them the noise grows.",
    "candidates": "List the values to choose from, known beforehand: candidates: [red, green, blue].",
    "metric": "Name a custom metric that is registered, such as geometric_mean.",
    "params": "Give the parameters that the custom metric takes: params: {low: 1, high: 100}.",
    "edges": "List the limits of the intervals as finite numbers, in rising order: [18, 30, 45, 65].",
    "to": "Write year, month, week, day, hour or minute.",
    "op": "Write ==, !=, <, <=, >, >=, in or not_in.",
    "shards": f"Give a whole number from 1 to {schema.MAX_SHARDS}.",
}

# The same for a bound that the run is to find.
_SEARCH_REMEDIES: Mapping[str, str] = {
    "auto": "Write {auto: {max: 100}} for a bound on contributions, {auto: {}} for a clipping bound.",
    "max": "Give the most that the bound may become, a whole number: {auto: {max: 100}}.",
    "least": "Give the least magnitude that matters, from 1e-12 to 5e14, or leave the key out: 1e-6.",
    "most": "Give the largest magnitude that the bound may become, from 1e-12 to 5e14, or leave the key out: 1e12.",
    "otherwise": (
        "Give what the bound is to be where nothing stands out, one that the run may find: from 1 to max, or 0 or ± a "
        "power of two from least to most. Or leave the key out."
    ),
}

_RULES = ("on_null", "on_nan", "on_inf", "on_invalid")

_PATTERN_RULES: Mapping[str, str] = {
    "dataset": "must match [a-z0-9][a-z0-9_-]* and have at most 64 characters",
    "name": "must match [a-z][a-z0-9_]* and have at most 64 characters",
    "delimiter": "must be one ASCII character other than a quote, a line end or NUL",
    "path": "must not hold a NUL, which no path does",
}

_PLAIN_RULES: Mapping[str, str] = {
    "missing": "is required",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of reasonable size",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most 255 characters",
}


def field_findings(data: Mapping[str, Any]) -> list[Finding]:
    """What pydantic says about the data as a whole; empty if the `Policy` can be built."""
    try:
        schema.Policy.model_validate(data)
    except ValidationError as error:
        findings = [_finding(data, details) for details in error.errors(include_url=False)]
        return [finding for finding in findings if finding is not None]
    return []


def _finding(data: Mapping[str, Any], details: ErrorDetails) -> Finding | None:
    kind = details["type"]
    key, value = _place(data, details["loc"], kind)
    context = details.get("ctx", {})
    name = _own_name(key)
    remedy = REMEDIES.get(name, "Correct the value.")
    if key[:1] == ("stages",) and key[2:3] == ("metrics",) and len(key) == 4:
        remedy = REMEDIES["metrics"]
    elif name == "top_k":
        remedy = "Ask for fewer values, list more candidates, or leave pre_threshold out beside them."
    elif key[:2] == ("output", "path"):
        remedy = "Name the folder where releases go: releases."
    elif name == "name" and key[2:3] == ("metrics",):
        remedy = "Give the result's column a name of 1 to 255 characters, or leave the key out."
    elif key[:1] == ("columns",) and len(key) == 2:
        remedy = "Write {type: string}, or another of int64, float64, bool, date, timestamp and vector."
    if name == "auto" or (key[:1] == ("stages",) and key[-2:-1] == ("auto",) and name == key[-1]):
        remedy = _SEARCH_REMEDIES.get("otherwise" if kind == "otherwise" else name, remedy)
    match kind:
        case "float_type" | "int_type" if isinstance(value, dict) and "auto" in value:
            rule = "must be a number: this can't be found by the run"
        case "too_short" if isinstance(value, list) and len(value) >= context["min_length"]:
            return None  # the list has entries enough, but they aren't right: each has its own finding
        case "too_short" if context["min_length"] > 1:
            rule = f"must have at least {context['min_length']} entries"
        case "metric" if isinstance(value, str):
            rule = details["msg"]
            if value in KINDS:
                needed = [key for key, field in ARGUMENTS[value].model_fields.items() if field.is_required()]
                remedy = f"Write {value}: {{{', '.join(f'{key}: …' for key in needed)}}}."
            else:
                remedy += closest(value, KINDS)
        case "extra_forbidden":
            known = _known_keys(key[:-1])
            remedy = f"Known keys here: {', '.join(known)}.{closest(str(key[-1]), known)}"
            return Finding(key=key, rule="is not a known key", remedy=remedy, value=ABSENT)
        case "greater_than":
            rule = f"must be above {_limit(context['gt'])}"
        case "greater_than_equal":
            rule = f"must be at least {_limit(context['ge'])}"
        case "less_than":
            rule = f"must be below {_limit(context['lt'])}"
        case "less_than_equal":
            rule = f"must be at most {_limit(context['le'])}"
        case "literal_error":
            rule = f"must be {context['expected']}"
            if isinstance(value, str):
                remedy += closest(value, context["expected"].replace(" or ", ", ").replace("'", "").split(", "))
        case "string_pattern_mismatch":
            rule = _PATTERN_RULES.get(name, "must not have these characters")
        case _:
            rule = _PLAIN_RULES.get(kind, details["msg"])
    if kind == "float_type" and isinstance(value, int) and not isinstance(value, bool):
        rule = "must be a finite number"
    if kind in ("float_type", "int_type") and isinstance(value, str):
        remedy = f"Write the number without quotes. {remedy}" if _is_number(value) else remedy
    if kind == "string_type" and isinstance(value, int | float):
        remedy = f"Put it in quotes if this is the text meant. {remedy}"
    return Finding(key=key, rule=rule, remedy=remedy, value=value)


def _place(data: object, loc: tuple[int | str, ...], kind: str) -> tuple[Key, object]:
    """The path in the file that pydantic's location means: without the names of union members, which aren't there."""
    key: Key = ()
    here = data
    for index, part in enumerate(loc):
        is_rule = len(key) == 3 and key[0] in ("columns", "derive") and key[2] in _RULES
        if is_rule and part in ("word", "mapping") and loc[index - 1] == key[-1]:
            continue
        if len(key) == 2 and key[0] == "derive" and index == 2:
            continue
        if isinstance(here, dict) and part in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif kind == "missing" and index == len(loc) - 1:
            return (*key, part), ABSENT
        else:
            continue
        key = (*key, part)
    return key, here


def _own_name(key: Key) -> str:
    """The last name on the way to a key that is the policy's own, and not one that its writer gave: a column may be
    called `value` or `metrics`."""
    named = next((len(at) for at in _NAMED if _is_at(key, at)), len(key))
    own = (*key[:named], *key[named + 1 :])
    if _is_at(key, _PARAMS):
        own = key[: len(_PARAMS)]
    return next((part for part in reversed(own) if isinstance(part, str)), "")


def _is_at(key: Key, pattern: tuple[str, ...]) -> bool:
    return len(key) >= len(pattern) and all(want in (_ANY, part) for want, part in zip(pattern, key, strict=False))


def _known_keys(key: Key) -> list[str]:
    for pattern, models in _MODELS.items():
        if len(pattern) == len(key) and all(want in (_ANY, part) for want, part in zip(pattern, key, strict=True)):
            return list(dict.fromkeys(name for model in models for name in model.model_fields))
    return []


def _limit(value: float) -> str:
    return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), f"{value:.10g}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
