"""What is installed: the packages, the version ranges they need, and the `dpbeam` command."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "dpbeam" / "_version.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

setup(
    name="dpbeam",
    version=VERSION,
    description="Differentially private releases from Apache Beam, under a privacy budget that holds",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["dpbeam*", "transforms*", "pipelines*"]),
    package_data={
        "dpbeam": ["py.typed"],
        "dpbeam.policy": ["*.json"],
        "dpbeam.reporting": ["schemas/*.json", "templates/*"],
    },
    install_requires=[
        "apache-beam>=2.70,<3",
        "dp-accounting>=0.4.4,<0.7",
        "fastavro>=1.9,<2",
        "jinja2>=3.1,<4",
        "jsonschema>=4.20,<5",
        "matplotlib>=3.8,<4",
        "numpy>=1.26,<3",
        "pipeline-dp>=0.2.1,<0.4",
        "polars>=1.39.3,<3",
        "pyarrow>=18",
        "pydantic>=2.9,<3",
        "python-dp>=1.1.5rc4,<2",
        "pyyaml>=6,<7",
        "rich>=13",
        "scipy>=1.11,<2",
        "typer>=0.15,<1",
    ],
    extras_require={
        "dev": [
            "hypothesis>=6.100",
            "mypy>=1.10",
            "pre-commit>=3.7",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
        ]
    },
    entry_points={"console_scripts": ["dpbeam=pipelines.cli:main"]},
)
