"""What a policy says of its source: keys that don't fit the format or the columns are refused, by whole messages."""

from __future__ import annotations

import pytest

from dpbeam.policy import compile as compiled
from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError

BASE = """\
version: 1
dataset: visits
source: SOURCE
privacy_unit: person
columns:
  person: {type: string}
  city: {type: string, field: CITY}
  year: {type: int64}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: by_city
    group_by: [city, year]
    partitions: {private: {strategy: truncated_geometric}}
    bounds: {l0: 4, linf: 2}
    metrics: [count]
    noise: gaussian
"""


def load(tmp_path, source, city="home.city"):
    (tmp_path / "policy.yaml").write_text(BASE.replace("SOURCE", source).replace("CITY", city))
    return load_policy(tmp_path / "policy.yaml")


def test_the_source_s_keys_reach_the_engine(tmp_path):
    source = "{format: csv, path: d, quoted_newlines: false, compression: xz, path_columns: [year], delimiter: ';'}"
    spec = compiled.input_spec(load(tmp_path, source, "[Home City]"))
    assert (spec.format, spec.quoted_newlines, spec.compression, spec.path_columns) == ("csv", False, "xz", ("year",))
    assert [column.field for column in spec.columns] == [None, ("Home City",), None]
    plain = compiled.input_spec(load(tmp_path, "{format: avro, path: d}"))
    assert (plain.quoted_newlines, plain.compression, plain.path_columns) == (True, "auto", ())
    assert plain.columns[1].field == "home.city"


@pytest.mark.parametrize(
    ("source", "city", "said"),
    [
        ("{format: parquet, path: d, delimiter: ';'}", "x",
         "3: source.delimiter applies to the format csv only, got ';'"),
        ("{format: jsonl, path: d, quoted_newlines: false}", "x",
         "3: source.quoted_newlines applies to the format csv only, got false"),
        ("{format: avro, path: d, compression: gzip}", "x",
         "3: source.compression applies to the formats csv and jsonl only: avro files are compressed inside, "
         "got 'gzip'"),
        ("{format: csv, path: d, compression: zip}", "x",
         "3: source.compression must be 'auto', 'none', 'gzip', 'bz2', 'zstd' or 'xz', got 'zip'"),
        ("{format: csv, path: d, path_columns: [yeer]}", "x",
         "3: source.path_columns[0] must name a column that stands under columns, got 'yeer'"),
        ("{format: csv, path: d, path_columns: [year, year]}", "x",
         "3: source.path_columns[1] must not stand twice, got 'year'"),
        ("{format: csv, path: d, path_columns: [city]}", "x",
         "7: columns.city.field applies to columns inside the files, and city stands in their path"),
        ("{format: csv, path: d}", "[a, b]",
         "7: columns.city.field must be one name in the format csv, which has no structs"),
        ("{format: csv, path: d}", "[]",
         "7: columns.city.field must be a name, a path such as address.city, or a list of names, got []"),
        ("{format: csv, path: d}", "[1]",
         "7: columns.city.field must be a name, a path such as address.city, or a list of names, got [1]"),
        ("{format: orc, path: d}", "x",
         "3: source.format must be 'csv', 'parquet', 'jsonl', 'avro' or 'arrow', got 'orc'"),
    ],
)  # fmt: skip
def test_a_source_that_is_wrong_is_refused(tmp_path, source, city, said):
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, source, city)
    assert str(caught.value).replace(f"{tmp_path / 'policy.yaml'}:", "").split("\n")[0] == said
