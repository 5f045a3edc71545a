"""`dpbeam init` on files as people have them: its policy loads, plans and runs as it is, or it says what to do."""

from __future__ import annotations

import bz2
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpbeam.pipelines.cli.main import invoke
from dpbeam.policy.load import load_policy

ROOT = Path(__file__).parents[2]
ROWS = [(f"u{i}", ("Paris", "Lyon ", " Nice")[i % 3], i % 28 + 1, f"{i % 40},5") for i in range(900)]
PLAIN = "user_id;city;seen;paid\n" + "".join(f"{u};{city};{day}.5.2024;{paid}\n" for u, city, day, paid in ROWS)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DPBEAM_LEDGER", raising=False)
    return tmp_path


def made(*words: str):
    assert invoke(["init", *words, "--output", "policy.yaml"]) == 0
    return load_policy("policy.yaml")


FORMS = {
    "semicolons": ("v.csv", PLAIN.encode()),
    "tabs": ("v.tsv", PLAIN.replace(";", "\t").encode()),
    "bars": ("v.txt", PLAIN.replace(";", "|").encode()),
    "a byte order mark": ("v.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
    "line ends of Windows": ("v.csv", PLAIN.replace("\n", "\r\n").encode()),
    "quoted names": ("v.csv", PLAIN.replace("user_id;city;seen;paid", '"user_id";"city";"seen";"paid"').encode()),
    "gzip": ("v.csv.gz", gzip.compress(PLAIN.encode())),
    "gzip that its name doesn't tell": ("v.csv", gzip.compress(PLAIN.encode())),
    "bz2": ("v.csv.bz2", bz2.compress(PLAIN.encode())),
    "blank lines on top": ("v.csv", b"\n\n" + PLAIN.encode()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_in_any_form_is_found_out_and_its_first_policy_gives_a_release(folder, form, capsys) -> None:
    name, content = FORMS[form]
    Path(name).write_bytes(content)
    policy = made(name, "--sample")
    assert list(policy.columns) == ["user_id", "city", "seen_text", "paid_text"]
    assert {name: entry.expression for name, entry in policy.derive.items()} == {
        "seen": "parse_date(seen_text, '%-d.%-m.%Y')",
        "paid": "parse_float64(paid_text, ',')",
    }
    assert (policy.privacy_unit, policy.stages[0].group_by) == ("user_id", ("city",))
    assert invoke(["plan", "policy.yaml"]) == 0, capsys.readouterr().err
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    assert invoke(["run", "policy.yaml"]) == 0, capsys.readouterr().err
    (table,) = Path("releases").glob("*/*/first.parquet")
    assert pq.read_table(table).column("city").to_pylist() == ["Lyon", "Nice", "Paris"]


def test_without_a_sample_every_column_of_a_csv_file_is_text_and_the_policy_runs(folder, capsys) -> None:
    Path("v.csv").write_text(PLAIN, encoding="utf-8")
    policy = made("v.csv")
    assert {rules.type for rules in policy.columns.values()} == {"string"}
    assert policy.derive == {}
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    assert invoke(["run", "policy.yaml"]) == 0, capsys.readouterr().err


def test_a_metric_of_a_column_that_is_read_by_an_expression_is_there_to_edit(folder, capsys) -> None:
    Path("v.csv").write_text(PLAIN, encoding="utf-8")
    made("v.csv", "--sample")
    text = Path("policy.yaml").read_text(encoding="utf-8")
    line = "      # - mean: {column: paid, low: LOW, high: HIGH}\n"
    assert line in text
    edited = text.replace(line, line.replace("# ", "").replace("LOW", "0").replace("HIGH", "50"))
    Path("policy.yaml").write_text(edited, encoding="utf-8")
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    assert invoke(["run", "policy.yaml"]) == 0, capsys.readouterr().err
    (table,) = Path("releases").glob("*/*/first.parquet")
    assert all(10 < mean < 30 for mean in pq.read_table(table).column("paid_mean").to_pylist())


def test_fields_inside_structs_of_parquet_are_columns_by_their_paths(folder) -> None:
    address = [{"city": ("Paris", " Lyon")[i % 2], "born": "13.2.1990"} for i in range(300)]
    pq.write_table(
        pa.table({"user_id": [f"u{i}" for i in range(300)], "address": address, "age": [7] * 300}), "v.parquet"
    )
    policy = made("v.parquet", "--sample")
    assert {name: (rules.type, rules.trim) for name, rules in policy.columns.items()} == {
        "user_id": ("string", True),
        "address.born_text": ("string", True),
        "address.city": ("string", True),
        "age": ("int64", False),
    }
    assert policy.columns["address.born_text"].field == "address.born"
    assert policy.stages[0].group_by == ("address.city",)
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    assert invoke(["run", "policy.yaml"]) == 0


@pytest.mark.parametrize("name", ["v.parquet", "v.jsonl"])
def test_text_of_files_that_state_types_is_read_by_expressions(folder, name, capsys) -> None:
    rows = [{"user_id": f"u{i}", "city": "Paris", "day": "2024-05-01", "n": f" {i} "} for i in range(300)]
    if name == "v.jsonl":
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), name)
    policy = made(name, "--sample")
    assert {key: entry.expression for key, entry in policy.derive.items()} == {
        "day": "date(day_text)",
        "n": "int64(n_text)",
    }
    text = Path("policy.yaml").read_text(encoding="utf-8").replace("[city]", "[city, day]")
    sums = "      # - sum: {column: n, low: LOW, high: HIGH}\n"
    text = text.replace(sums, "      - sum: {column: n, low: 0, high: 300}\n")
    Path("policy.yaml").write_text(text, encoding="utf-8")
    assert invoke(["budget", "create", "policy.yaml"]) == 0
    assert invoke(["run", "policy.yaml"]) == 0, capsys.readouterr().err
    (table,) = Path("releases").glob("*/*/first.parquet")
    assert pq.read_table(table).num_rows == 1


def test_a_parquet_file_is_known_whatever_it_is_called(folder) -> None:
    pq.write_table(pa.table({"user_id": ["a"], "city": ["b"]}), "part-00000")
    assert made("part-00000").source.format == "parquet"


def test_one_column_is_enough(folder) -> None:
    Path("v.csv").write_text("city\nParis\n", encoding="utf-8")
    policy = made("v.csv", "--sample")
    assert (policy.privacy_unit, policy.stages[0].group_by) == ("row", ("city",))


def test_a_name_that_stands_twice_is_left_out_and_said(folder) -> None:
    Path("v.csv").write_text("user_id,city,city\nu,a,b\n", encoding="utf-8")
    assert list(made("v.csv", "--sample").columns) == ["user_id", "everyone"]
    assert '# left out: "city", its name stands twice' in Path("policy.yaml").read_text(encoding="utf-8")


CANARY = "Xq7canary"
REFUSED = {
    "no bytes": ("v.csv", b"", "v.csv is empty: it has no column names"),
    "a byte order mark alone": ("v.csv", b"\xef\xbb\xbf\n", "v.csv is empty: it has no column names"),
    "a header in Latin-1": (
        "v.csv",
        f"{CANARY},gr\xf6\xdfe\n".encode("latin-1"),
        "v.csv: its first line is not UTF-8 text. Convert the file, for instance `iconv -f LATIN1 -t UTF-8`, "
        "or export it "
        "as UTF-8",
    ),
    "UTF-16": (
        "v.csv",
        f"user,{CANARY}\n".encode("utf-16"),
        "v.csv is UTF-16 text: convert it, for instance `iconv -f UTF-16 -t UTF-8`",
    ),
    "a workbook": (
        "v.csv",
        b"PK\x03\x04" + CANARY.encode(),
        "v.csv is a ZIP archive or an Excel workbook: unpack it, or save the sheet as CSV",
    ),
    "no header": (
        "v.csv",
        f"{CANARY},17,2024-05-01\n".encode(),
        "v.csv seems to have no header: its first line has what looks like values (numbers, dates, addresses), and "
        "a policy would show them. Put a line of column names on top of the file; if that is what these are, say "
        "--header",
    ),
    "no header, and text alone": (
        "v.csv",
        f"{CANARY},Paris\nb,Lyon\nc,Paris\n".encode(),
        "v.csv seems to have no header: a name in its first line is also a value below it, and a policy would "
        "show it. Put "
        "a line of column names on top of the file; if that is what these are, say --header",
    ),
    "two delimiters": (
        "v.csv",
        f"a,{CANARY};c\n".encode(),
        "v.csv: its first line can be cut at a comma or a semicolon; say which by --delimiter",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_not_be_read_is_refused_with_a_remedy_and_without_a_value(folder, what, capsys) -> None:
    name, content, said = REFUSED[what]
    Path(name).write_bytes(content)
    assert invoke(["init", name, "--sample", "--output", "policy.yaml"]) == 2
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"dpbeam: {said}\n")
    assert not Path("policy.yaml").exists()


def test_whoever_says_so_has_numbers_for_names(folder) -> None:
    Path("v.csv").write_text("city,2023,2024\nParis,1,2\n", encoding="utf-8")
    assert list(made("v.csv", "--header").columns) == ["city", "2023", "2024"]


def test_the_delimiter_may_be_said(folder) -> None:
    Path("v.csv").write_text("a,b;c\n1;2\n", encoding="utf-8")
    assert list(made("v.csv", "--delimiter", ";").columns) == ["a,b", "c"]
    Path("policy.yaml").unlink()
    Path("w.csv").write_text("a\tb,c\n", encoding="utf-8")
    assert list(made("w.csv", "--delimiter", "tab").columns) == ["a", "b,c"]


@pytest.mark.parametrize("mark", ["", "::", "é", '"', "\n"])
def test_a_delimiter_that_no_file_can_have_is_refused(folder, mark, capsys) -> None:
    Path("v.csv").write_text("a,b\n", encoding="utf-8")
    assert invoke(["init", "v.csv", f"--delimiter={mark}"]) == 2
    assert "--delimiter must" in capsys.readouterr().err


def test_a_delimiter_is_no_matter_of_parquet(folder, capsys) -> None:
    pq.write_table(pa.table({"city": ["b"]}), "v.parquet")
    assert invoke(["init", "v.parquet", "--delimiter", ";"]) == 2
    assert capsys.readouterr().err == (
        "dpbeam: --delimiter is for CSV files, and v.parquet is a Parquet file; leave it out\n"
    )


def test_a_sample_is_said_aloud(folder, capsys) -> None:
    Path("v.csv").write_text(PLAIN, encoding="utf-8")
    made("v.csv", "--sample")
    said = " ".join(capsys.readouterr().err.split())
    assert said == (
        "note: --sample looked at values, of up to 10,000 rows: the types in this policy depend on them. Confirm each "
        "before the policy goes to anybody."
    )
    assert "come from values of up to 10,000 rows (--sample)" in Path("policy.yaml").read_text(encoding="utf-8")


CELLS = [
    "7",
    "8.5",
    "1,5",
    "3.4.2024",
    "yes",
    "NA",
    CANARY,
    f" {CANARY} ",
    "true",
    "2024-01-31",
    "",
    "caf\xe9",
    "01234",
]


@pytest.mark.parametrize("first", range(len(CELLS)))
@pytest.mark.parametrize("name", ["v.csv", "v.parquet"])
def test_no_value_gets_into_the_policy_or_onto_the_screen(folder, first, name) -> None:
    """Whatever stands in the columns: each has one kind of value, one that is planted, and another."""
    cells = [[CELLS[first]] * 40 + [f"{CANARY}{i}"] * 40 + [CELLS[(first + 1) % len(CELLS)]] for i in range(4)]
    cells.append([CELLS[first]] * 81)
    names = ["user_id", "city", "when", "cost", "kind"]
    if name == "v.csv":
        lines = [names, *zip(*cells, strict=True)]
        text = "\n".join(",".join(f'"{cell}"' if cell else "" for cell in line) for line in lines)
        Path(name).write_bytes(text.encode("latin-1"))
    else:
        pq.write_table(pa.table([pa.array(each) for each in cells], names=names), name)
    program = "from dpbeam.pipelines.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "init", name, "--sample", "--output", "policy.yaml"],
        capture_output=True,
        env={"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout + done.stderr + Path("policy.yaml").read_bytes()
    assert CANARY.encode() not in shown
    for cell in CELLS:
        if len(cell) > 3 and cell not in ("true", "3.4.2024"):
            assert cell.encode() not in shown


def test_of_many_columns_of_numbers_a_few_are_written_out(folder, capsys) -> None:
    names = [f"n{i}" for i in range(9)]
    Path("w.csv").write_text("\n".join([",".join(["user_id", "city", *names]), "u,Oslo" + ",1" * 9]), encoding="utf-8")
    made("w.csv", "--sample")
    text = Path("policy.yaml").read_text(encoding="utf-8")
    assert text.count("# - mean:") == 5
    assert "# and so on for 4 more columns of numbers; each metric takes its share\n" in text


@pytest.mark.parametrize(("column", "is_said"), [("user_id", False), ("tail", True)])
def test_a_policy_that_protects_single_rows_is_said_aloud(folder, capsys, column, is_said) -> None:
    Path("v.csv").write_text(f"{column},city\nN1,Oslo\n", encoding="utf-8")
    made("v.csv")
    said = " ".join(capsys.readouterr().err.split())
    assert ("no column sounds like a person's id, so the policy protects each row by itself." in said) == is_said
