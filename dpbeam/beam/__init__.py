"""Private releases from people's own Beam pipelines: a sink, two transforms, and a source for what was released.

    with PrivateRelease(asked, ledger="sqlite:///ledger.sqlite", output="releases") as release, beam.Pipeline(…) as p:
        p | … | release                                      # rows in, a release out when the pipeline is done

    with Charge(ledger="sqlite:///ledger.sqlite", output="releases") as charge, beam.Pipeline(…) as p:
        by_city = p | … | PrivateAggregate(asked, charge=charge)     # and its rows, within the pipeline

Guarantee: everything that is released under one charge (a release's files, and what `PrivateAggregate` or `PrivateKeys`
put out for the pipeline to go on with) satisfies together the (ε, δ) that the release's manifest states, for one
privacy unit: for two collections of rows *as they are given to these transforms* of which one has all rows of one unit
more. The ledger is charged for it, durably, when the transform is applied, so before the pipeline can run; and all of
it is one draw of each value, on every runner, whatever it executes again. Why:

- **The same steps.** Rows are validated, bounded, accumulated, selected and noised by the steps of `dpbeam run`, in the
  same order, with a plan that the same check has certified.
- **The same charge.** A transform can't be applied but under a charge that is STARTED, and a charge pays once: for one
  transform, applied once. Whatever fails after, the cost stays spent.
- **One draw.** Beam promises no barrier that all runners keep, so none is relied on. Results are staged in files with
  fixed names. What `PrivateRelease` publishes is taken from them once, when the pipeline is done. What goes on within
  the pipeline comes out of one step that first makes one copy of all staged files under a name which only the first
  can take (`Area.freeze`): whoever executes that step again, at whatever time, reads that copy; and it is what is
  published. A charge whose draw may have been seen so is never tried again.
- **One sample.** A runner may execute the steps before these again, and they may give other rows (a clock, a random
  choice). Then a unit could count with as much as its bounds allow in each of two executions. So what each shard of
  units gives is sealed by a keyed digest when it first gives it (`Area.seal`); given anything else the run fails.
- **Control totals.** Nothing comes out, or is published, unless what was sent into each shuffle has arrived.

What would break it:

- Steps of yours, before these, that let one unit's rows change another unit's: a join, a top-N, a normalisation over
  all rows. The guarantee begins where the rows come in. And rows of yours that leave on another way: nothing here sees
  those.
- Workers that don't see one file system under `output` whose hard links are atomic, or whom it doesn't belong to.
- Somebody who reads the staging folder: see docs/known_limits.md, all of which holds here too.

Refused, for it can't be kept: rows in windows or without end; rows that are privacy units themselves, since nothing
tells a row that a runner reads twice from two rows; bounds that the run is to find, selections in rounds and
hierarchical keys, which need several passes over the same rows (write them to files, for `dpbeam run`); Beam's
`DirectRunner`, running modes and servers that lose rows or open this machine to others, as `dpbeam run` does.
"""

from __future__ import annotations

from dpbeam.extras import require

require("beam")

from dpbeam.beam.charge import Charge  # noqa: E402
from dpbeam.beam.read import ReadRelease  # noqa: E402
from dpbeam.beam.release import PrivateAggregate, PrivateKeys, PrivateRelease  # noqa: E402

__all__ = ["Charge", "PrivateAggregate", "PrivateKeys", "PrivateRelease", "ReadRelease"]
