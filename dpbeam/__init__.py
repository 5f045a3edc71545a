"""dpbeam: differentially private releases from Apache Beam, under a privacy budget that holds.

Importing this package does not import Apache Beam; the parts that need it live in `dpbeam.transforms` and
`dpbeam.pipelines`.
"""

from dpbeam._version import __version__

__all__ = ["__version__"]
