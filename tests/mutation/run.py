"""`make mutation`: seeds mutants in the modules that guarantees rest on, and says which of them no test notices.

    make mutation                          # the modules in the page's table
    make mutation FILES="selection noise"  # these

mutmut makes the mutants; `loop.py` tries them. All of it happens in a copy of the checkout below build/mutation. Ends
with 1 if a survivor isn't explained in survivors.md, beside this file.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "mutation" / "work"
ROOMS = ("mechanisms", "queries", "reading", "engine", "adapters/reference")
"""Where the modules lie that are mutated, below dpbeam; no two of them have one name."""
PAGE = Path(__file__).with_name("survivors.md")

TESTS = (
    "tests/unit/mechanisms/test_*.py",
    "tests/unit/queries/test_*.py",
    "tests/unit/engine/test_kernel_*.py",
    "tests/unit/reading/test_rows_[!c]*.py",
    "tests/unit/reading/test_rows_casting.py",
    "tests/unit/engine/test_auto_*.py",
    "tests/unit/engine/test_hierarchy_bounds.py",
    "tests/unit/engine/test_biases.py",
    "tests/unit/adapters/test_kernel_reference_results.py",
    "tests/unit/policy/test_pre_aggregated.py",
    "tests/unit/accounting/test_accounting_hierarchy.py",
    "tests/statistical/test_kernel_sampling.py",
    "tests/statistical/test_rare_partitions.py",
    "tests/statistical/test_kernel_keep_probability.py",
    "tests/statistical/test_kernel_noise_scale.py",
    "tests/statistical/test_hierarchy_noise.py",
)
"""What is run against a mutant, of these only what reaches its function: the tests of the kernels, without Beam."""

LEFT_OUT = (r'^\s*f?"[^"]*"$', r'^\s*raise \w+\(f?"[^"]*"\)( from \w+)?$')
"""Lines that aren't mutated: texts of errors. Tests say what a message must hold, not each of its words."""


LAST = r", (?=\))"
SAME = {
    "zip's check of lengths": (r"zip\(", rf",? ?\bstrict=\w+|{LAST}"),
    "what a cast is called": (r"cast\(", r"(?<=\bcast\()[^,]*(?=, )"),
    "NumPy's default is float64": (r"np.(zeros|ones|empty|fromiter)\(", rf",? ?\bdtype=(?:np\.float64|None)|{LAST}"),
    "astype's default is float64": (r"astype\(", r"(?<=\bastype\()(?:np\.float64|None)"),
    "copied or not": (r"copy", rf",? ?\bcopy=\w+|(?<=zero_copy_only=)(?:False|None)|{LAST}"),
    "a name in capitals": (r"sort\(", r'(?<=kind=")(?:stable|STABLE)'),
    "any negative number": (r"reshape\(", r"(?<=reshape\()-\d"),
    "a hint of how many come": (r"fromiter\(", rf",? ?\bcount=(?:len\(\w+\)|\w+)|{LAST}"),
}
"""Changes that make no difference, by rule: in lines that hold the one text, lines that are alike but for the other."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change to one function; `name` and `function` are mutmut's names of them."""

    name: str
    function: str
    module: str


def copy_checkout() -> None:
    """What git knows of the checkout, as it is now, without caches of bytecode."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seeded = {str(path) for path in modules().values()}
    for name in filter(None, listed.stdout.split("\n")):
        if (ROOT / name).is_file() and name not in seeded:
            (WORK / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, WORK / name)


def seed() -> list[Mutant]:
    """Puts all mutants into the copy, each beside the function that it is of; functions by rule left alone aside."""
    os.chdir(WORK)
    patterns = "\n  ".join(("", *LEFT_OUT))
    Path("setup.cfg").write_text(f"[mutmut]\nsource_paths = dpbeam\ndo_not_mutate_patterns ={patterns}\n", "utf-8")
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import mangled_name_from_mutant_name

    kept, found = WORK.parent / "seeded.json", []
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    for module, path in modules().items():
        source = without_decorators((ROOT / path).read_text(encoding="utf-8"))
        if known.get(module, {}).get("source") != source:
            mutated = mutate_file_contents(str(path), source)
            known[module] = {"source": source, "code": mutated.code, "mutants": list(mutated.mutant_names)}
        path.write_text(known[module]["code"], encoding="utf-8")
        dotted = ".".join(path.with_suffix("").parts)
        for name in (f"{dotted}.{each}" for each in known[module]["mutants"]):
            found.append(Mutant(name=name, function=mangled_name_from_mutant_name(name), module=module))
    kept.write_text(json.dumps(known), encoding="utf-8")
    return found


def modules() -> dict[str, Path]:
    """The modules by name, each with its path below the checkout; those that read files aren't among them. A family of
    metrics has a module in two rooms: they are called `queries_sums` and `engine_sums`."""
    found = [path.relative_to(ROOT) for room in ROOMS for path in (ROOT / "dpbeam" / room).rglob("*.py")]
    kept = [path for path in sorted(found) if path.stem != "__init__" and "formats" not in path.parts]
    named = {f"{path.parts[1]}_{path.stem}" if "metrics" in path.parts else path.stem: path for path in kept}
    assert len(named) == len(kept), "two modules have one name"
    return named


def scored() -> list[str]:
    """The modules in the page's table of scores: those whose survivors it explains."""
    return re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def without_decorators(source: str) -> str:
    """Properties as plain methods, made properties below them: mutmut leaves decorated functions alone."""
    lines = source.split("\n")
    for kind in reversed([node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)]):
        for method in reversed(kind.body):
            if isinstance(method, ast.FunctionDef) and [ast.unparse(d) for d in method.decorator_list] == ["property"]:
                again = f"{' ' * method.col_offset}{method.name} = property({method.name})"
                lines.insert(method.end_lineno or 0, again)
                del lines[method.decorator_list[0].lineno - 1]
    return "\n".join(lines)


def try_all(mutants: list[Mutant], jobs: int, budget: float) -> dict[str, str]:
    """What became of each mutant."""
    by_function: dict[str, list[str]] = {}
    for mutant in mutants:
        by_function.setdefault(mutant.function, []).append(mutant.name)
    files = {name: WORK.parent / f"{name}.json" for name in ("mutants", "verdicts", "reached")}
    files["mutants"].write_text(json.dumps(by_function), encoding="utf-8")
    threads = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    tests = sorted(str(path.relative_to(ROOT)) for pattern in TESTS for path in ROOT.glob(pattern))
    subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "loop", "-p", "no:xdist", "--tb=no", "-W", "ignore", "-s",
            *(f"--{name}={path}" for name, path in files.items()), f"--jobs={jobs}", f"--budget={budget}", *tests,
        ],
        cwd=WORK, env=os.environ | threads | {"PYTHONPATH": "tests/mutation"}, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(files["verdicts"].read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True, kw_only=True)
class Change:
    """The lines that a mutant takes and those that it puts in their place; and why nothing can notice, if so."""

    key: str
    old: str
    new: str
    why: str | None


def reasons_for(mutants: list[Mutant]) -> dict[str, Change]:
    """What each mutant changes, and whether it is explained."""
    reasons = explained(PAGE.read_text(encoding="utf-8"))
    found = {}
    for module in dict.fromkeys(mutant.module for mutant in mutants):
        changes = Changes(module)
        for mutant in (mutant for mutant in mutants if mutant.module == module):
            old, new = changes.of(mutant.name)
            key = f"{mutant.function}: {old} => {new}"  # numbers change with the function
            found[mutant.name] = Change(key=key, old=old, new=new, why=classified(mutant, old, new, reasons))
    return found


def skipped(change: Change, again: str | None) -> bool:
    """Whether a mutant isn't worth a try: the whole run tries also what the page explains."""
    return change.why is not None and (bool(again) or change.why.startswith("alike"))


def report(mutants: list[Mutant], verdicts: dict[str, str], reasons: dict[str, Change]) -> int:
    """Prints each module's score and its survivors; returns how many survivors the page doesn't explain."""
    total = Counter[str]()
    for module in dict.fromkeys(mutant.module for mutant in mutants):
        kinds, lines = Counter[str](), []
        for mutant in (mutant for mutant in mutants if mutant.module == module):
            change, verdict = reasons[mutant.name], verdicts[mutant.name]
            if verdict not in ("killed", "timeout"):
                verdict = change.why or f"{verdict}, unexplained"
                if not change.why:
                    lines.append(f"  {verdict}: {mutant.name}\n    - {change.old}\n    + {change.new}")
            kinds[verdict] += 1
        print("\n".join([f"{module}: {line_of(kinds)}", *lines]))
        total += kinds
    print(f"in all: {line_of(total)}")
    return sum(count for kind, count in total.items() if kind.endswith("unexplained"))


def explained(page: str) -> dict[tuple[str, str], list[str]]:
    """What the page explains: by module and function the parts of lines whose mutants may survive; none: all lines.

    A section is headed `### module`; its items begin with a function and such parts, each in backticks, up to a colon.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        module = section.split(maxsplit=1)[0]
        for item in re.findall(r"^- (`.*?`):\s", section, re.MULTILINE | re.DOTALL):
            function, *parts = re.findall(r"``(.*?)``|`(.*?)`", re.sub(r"\s+", " ", item))
            found.setdefault((module, "".join(function)), []).extend("".join(part) for part in parts or [("", "")])
    return found


def classified(mutant: Mutant, old: str, new: str, reasons: dict[tuple[str, str], list[str]]) -> str | None:
    """Why a mutant may survive, if there is a reason."""
    for rule, (where, pattern) in SAME.items():
        if re.search(where, old) and re.sub(pattern, "", old) == re.sub(pattern, "", new):
            return f"alike by rule ({rule})"
    function = re.sub(r"^x_|^xǁ", "", mutant.function.rpartition(".")[-1]).replace("ǁ", ".")
    return "explained" if any(part in old for part in reasons.get((mutant.module, function), ())) else None


def line_of(kinds: Counter[str]) -> str:
    return f"{kinds.total()} mutants, " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


class Changes:
    """What the mutants of a module change."""

    def __init__(self, module: str) -> None:
        code = (WORK / modules()[module]).read_text(encoding="utf-8")
        lines, self._functions = code.split("\n"), {}
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name:
                self._functions[node.name] = lines[node.lineno - 1 : node.end_lineno]

    def of(self, name: str) -> tuple[str, str]:
        """The lines that go and those that come."""
        from difflib import unified_diff

        from mutmut.utils.format_utils import mangled_name_from_mutant_name

        new = name.rpartition(".")[-1]
        old = mangled_name_from_mutant_name(new) + "__mutmut_orig"
        functions = [[line.replace(name, "f", 1) for line in self._functions[name]] for name in (old, new)]
        shown = list(unified_diff(*functions, n=0))[2:]
        minus, plus = (" ".join(line[1:].strip() for line in shown if line.startswith(sign)) for sign in "-+")
        return re.sub(r"\s+", " ", minus), re.sub(r"\s+", " ", plus)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "modules", nargs="*", metavar="module", help="of dpbeam/mechanisms; if none is named, those in the page's table"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many mutants are tried at once")
    parser.add_argument("--budget", type=float, default=6.0, help="CPU seconds of tests that a mutant gets at most")
    parser.add_argument("--again", choices=["survivors", "new"], help="only what wasn't killed, or tried, before")
    options = parser.parse_args(words)
    if unknown := set(options.modules) - set(modules()):
        parser.error(f"no such modules of {', '.join(ROOMS)}: {', '.join(sorted(unknown))}")
    WORK.mkdir(parents=True, exist_ok=True)
    copy_checkout()
    asked = options.modules or scored()
    mutants = sorted((m for m in seed() if m.module in asked), key=lambda mutant: asked.index(mutant.module))
    kept = WORK.parent / "found.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() and options.again else {}
    changes = reasons_for(mutants)
    found = {name: known[change.key] for name, change in changes.items() if change.key in known}
    new = [m for m in mutants if found.get(m.name) != "killed" and not skipped(changes[m.name], options.again)]
    if options.again == "new":
        new = [mutant for mutant in new if mutant.name not in found]
    found |= try_all(new, options.jobs, options.budget)
    kept.write_text(json.dumps(known | {changes[name].key: verdict for name, verdict in found.items()}), "utf-8")
    verdicts = {mutant.name: found.get(mutant.name, "survived") for mutant in mutants}
    return 1 if report(mutants, verdicts, changes) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
