"""How YAML is read: plain scalars, files that are no policy, limits, and that no text breaks the loader."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpbeam.policy.load import load_policy
from dpbeam.policy.violations import PolicyError
from dpbeam.policy.yamlfile import read_yaml

SYNTAX = "Correct the syntax there; text with any of : # { } [ ] , & * ? | > ' \" % @ ` needs quotes."
START = "Start from the file that `dpbeam init DATA` writes."
LIST = "Put a long list of partitions into a file and name it in partitions.public.file."

GOOD = """\
version: 1
dataset: visits
source: {format: csv, path: data.csv}
privacy_unit: person
columns: {person: {type: string}, place: {type: string}, hours: {type: float64, on_nan: {replace: 0}}}
derive: {band: {bin: hours, edges: [1, 2]}, low: {lower: place}}
where: [{column: hours, op: in, value: [0, 1]}]
budget: {epsilon: 10, delta: 1e-6}
run: {epsilon: 1, delta: 1e-8}
stages:
  - name: by_place
    group_by: [place]
    partitions: {public: {values: [a, NO]}}
    bounds: {l0: 4, linf: 2}
    metrics: [count, sum: {column: hours, low: 0, high: 8}]
    noise: gaussian
"""


def read(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
    return read_yaml(path).data


SCALARS = {
    "1e-6": 1e-6,
    "1E6": 1e6,
    "-.5": -0.5,
    "1.": 1.0,
    "7": 7,
    "+7": 7,
    "true": True,
    "False": False,
    "NO": "NO",
    "yes": "yes",
    "on": "on",
    "null": None,
    "~": None,
    "'1e-6'": "1e-6",
    '"true"': "true",
    "2026-11-24": "2026-11-24",
    "2026-11-24 10:00:00": "2026-11-24 10:00:00",
    "10:30": "10:30",
    "1_000": "1_000",
    "0x10": "0x10",
    "007": "007",
    "0o7": "0o7",
    ".inf": float("inf"),
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_plain_scalar_is_read_as(text, tmp_path):
    found = read(tmp_path, f"a: {text}\n")["a"]
    assert (type(found), found) == (type(SCALARS[text]), SCALARS[text])


def test_an_unquoted_no_stays_a_partition(tmp_path):
    (tmp_path / "policy.yaml").write_text(GOOD)
    (stage,) = load_policy(tmp_path / "policy.yaml").stages
    assert stage.partitions.public.values == ("a", "NO")


FILES = {
    "empty": ("", ":1: the policy must hold a mapping of keys such as version, dataset and stages; it is empty", START),
    "a list": (
        "[1, 2]",
        ":1: the policy must hold a mapping of keys such as version, dataset and stages; it is not a mapping",
        START,
    ),
    "broken": (
        "a: 1\nb: [",
        ":2: the policy is not valid YAML: expected the node content, but found '<stream end>'",
        SYNTAX,
    ),
    "two documents": ("a: 1\n---\nb: 1\n", ":2: the policy is not valid YAML: but found another document", SYNTAX),
    "a control character": (
        "a: \x00",
        ": the policy is not valid YAML: it holds characters that YAML doesn't allow",
        SYNTAX,
    ),
    "Latin-1": (b"a: 1\nb: caf\xe9\n", ":2: the policy must be text in UTF-8", "Save the file as UTF-8."),
    "a loop": (
        "a: &a [*a, *a]",
        ": the policy must not nest deeper than 50 levels",
        "Flatten the file; remove alias loops.",
    ),
    "a billion laughs": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        ": the policy must not hold more than 200,000 values, aliases counted each time",
        LIST,
    ),
    "deep": (
        "a: " + "[" * 5000,
        ": the policy must not nest deeper than 50 levels",
        "Flatten the file; remove alias loops.",
    ),
    "large": ("#" * 1_000_001, ": the policy must not be larger than 1,000,000 bytes", LIST),
}


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_no_policy_is_refused(what, tmp_path):
    text, said, remedy = FILES[what]
    with pytest.raises(PolicyError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'policy.yaml'}{said}\n    Remedy: {remedy}"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path / "none.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'none.yaml'}: the policy does not exist\n"
        "    Remedy: Check the path; `dpbeam init DATA` writes a first policy."
    )


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(PolicyError) as caught:
        load_policy(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: the policy can't be read: Is a directory\n    Remedy: Name a readable file."
    )


def test_paths_start_at_the_policys_folder_and_schemes_are_kept(tmp_path):
    text = GOOD.replace("path: data.csv", "path: [a/*.csv, /b.csv, 'gs://bucket/c.csv']")
    (tmp_path / "policy.yaml").write_text(text)
    paths = load_policy(tmp_path / "policy.yaml").source.path
    assert paths == (os.path.join(tmp_path, "a/*.csv"), "/b.csv", "gs://bucket/c.csv")


def test_source_and_output_can_be_overridden(tmp_path):
    (tmp_path / "policy.yaml").write_text(GOOD)
    policy = load_policy(tmp_path / "policy.yaml", source=["x.csv"], output="there")
    assert (policy.source.path, policy.output.path, policy.output.shards) == (("x.csv",), "there", 8)


def loads_or_refuses(folder, text):
    path = folder / "fuzz.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    try:
        load_policy(path)
    except PolicyError as error:
        said = str(error)
    else:
        return
    assert "Remedy: " in said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@settings(deadline=None, max_examples=150)
@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_no_bytes_raise_anything_but_a_policy_error(folder, text):
    loads_or_refuses(folder, text)


SPOTS = st.sampled_from(sorted({index for index, char in enumerate(GOOD) if char in " {}[]:,\n"}))
PIECES = st.one_of(
    st.sampled_from(
        [
            *SCALARS,
            "{}",
            "[]",
            "[[1]]",
            "{a: 1}",
            "&a",
            "*a",
            "!!int 3",
            ".nan",
            "1e999",
            "9" * 400,
            "<<",
            "- ",
            "\n",
            '"\\ud800"',
        ]
    ),
    st.text(max_size=8),
)


@settings(deadline=None, max_examples=400)
@given(start=SPOTS, length=st.integers(0, 12), piece=PIECES)
def test_no_damage_to_a_policy_raises_anything_but_a_policy_error(folder, start, length, piece):
    loads_or_refuses(folder, GOOD[: start + 1] + piece + GOOD[start + 1 + length :])


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("a\x00b")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), value=VALUES)
def test_no_value_at_any_place_raises_anything_but_a_policy_error(folder, data, value):
    (folder / "good.yaml").write_text(GOOD)
    tree = read_yaml(folder / "good.yaml").data
    here = tree
    while True:
        key = data.draw(st.sampled_from(sorted(here) if isinstance(here, dict) else list(range(len(here)))))
        if isinstance(here[key], dict | list) and here[key] and data.draw(st.booleans()):
            here = here[key]
            continue
        here[key] = value
        break
    text = json.dumps(tree).replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")
    loads_or_refuses(folder, text)
