"""One round of a selection by weights: which partitions it keeps, and what the next round learns of it.

Each function is one step of `dpbeam.transforms.steps.weigh` between two shuffles. Nothing is drawn before `draw`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dpbeam.array_types import F64, I64, Mask
from dpbeam.engine.aggregation.accumulate import key_fields
from dpbeam.engine.arrays import hashing
from dpbeam.engine.arrays.grouping import group, runs
from dpbeam.engine.arrays.lookup import ABSENT, Lookup
from dpbeam.engine.bounding.contributions import split
from dpbeam.engine.rounds import biases, weight_tables, weights
from dpbeam.engine.rounds.biases import UNLISTED
from dpbeam.engine.rounds.earlier_rounds import BIAS, KEPT, EarlierRounds
from dpbeam.engine.rounds.weight_tables import SUM, UNITS, weight_schema
from dpbeam.engine.stage import StageSpec
from dpbeam.errors import UsageError
from dpbeam.mechanisms.events import Gaussian, WeightedThresholding
from dpbeam.mechanisms.fixedpoint import Grid, exponent_of
from dpbeam.mechanisms.noise import AdditiveNoise

PART, WEIGHT = "__part", "__weight"

_MOST_SIGMA, _MOST_WEIGHT = 1 << 16, 1 << 19
GRID = Grid(low=0.0, high=2.0**21, centre=0.0, step=2.0**-weights.WEIGHT_BITS, lowest=0, highest=1 << 61)
"""Of weights. Where σ is above 256 they are cut down to whole steps of its noise, 2**-32 at most."""


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Distinct (unit, partition) pairs, sorted by unit code. `ids` and `keys` are the values that codes stand for;
    `biases` are the pairs' (`biases.UNLISTED`: the round before saw no prospect for the partition). `others` are
    partitions of pairs that were dropped, and of none that are here, in a round whose noisy weights the next one uses.
    """

    units: I64
    partitions: I64
    biases: I64
    others: I64
    ids: pa.Array
    keys: tuple[pa.Array, ...]

    @property
    def size(self) -> int:
        return len(self.keys[0])

    def batch(self, spec: StageSpec) -> pa.RecordBatch:
        """The pairs as rows: unit, keys. The unit is null for `others`."""
        units = pa.concat_arrays([self.ids.take(pa.array(self.units)), pa.nulls(len(self.others), self.ids.type)])
        partitions = pa.array(np.concatenate([self.partitions, self.others]))
        return pa.RecordBatch.from_arrays([units, *(key.take(partitions) for key in self.keys)], names=columns_of(spec))

    def only(self, stays: Mask, spec: StageSpec) -> Pairs:
        """These pairs alone; the others' partitions go to `others` where the next round asks for them."""
        units, partitions, others = self.units[stays], self.partitions[stays], self.others
        if _biasing(spec):
            dropped = np.zeros(self.size, dtype=np.bool_)
            dropped[others] = dropped[self.partitions[~stays]] = True
            dropped[partitions] = False
            others = np.flatnonzero(dropped)
        return replace(self, units=units, partitions=partitions, biases=self.biases[stays], others=others)


def columns_of(spec: StageSpec) -> list[str]:
    """The columns that a round reads: unit and keys.

    Raises:
        ValueError: rows are units of their own.
    """
    if spec.unit is None:
        raise ValueError(f"stage {spec.name}: a selection by weights needs units that may be in several partitions")
    return [spec.unit, *spec.keys]


def without_kept(batch: pa.RecordBatch, spec: StageSpec, known: EarlierRounds | None) -> pa.RecordBatch:
    """The rows whose partition no round before has kept: row-local, since what was kept is public."""
    if known is None or not batch.num_rows:
        return batch
    inside = known.kept([batch.column(name) for name in spec.keys])
    return batch.filter(pa.array(~inside)) if inside.any() else batch


def sample(batches: Sequence[pa.RecordBatch], spec: StageSpec, salt: bytes, known: EarlierRounds | None) -> Pairs:
    """At most `l0` partitions of each unit, distinct, by the least keyed hash of (unit, partition): first those that
    the round before listed with a bias, then others.

    Guarantee: exactly min(l0, n) of a unit's n partitions, a function of that unit's rows, the secret salt, and what
    `known` says of these n alone; a uniform subset of the listed ones, or all of them and some of the rest. The sample
    of a union is the sample of the samples, so a batch may be cut where it is read. No partition disappears where the
    next round asks for all of them: it is among the pairs or in `others`.
    """
    table = pa.Table.from_batches([batch.select(columns_of(spec)) for batch in batches])
    partitions = group([table.column(name) for name in spec.keys], table.num_rows)
    real = table.column(columns_of(spec)[0]).is_valid().to_numpy().astype(np.bool_)
    units = group([table.column(columns_of(spec)[0]).filter(pa.array(real))], int(real.sum()))
    most = max(1, partitions.size)
    packed = np.sort(units.codes * most + partitions.codes[real])
    unit, partition = np.divmod(packed[runs(packed)], most)
    others = np.zeros(partitions.size, dtype=np.bool_)
    others[partitions.codes[~real]] = True
    others[partition] = False
    biases = _biases(partitions.keys, spec, known)
    pairs = Pairs(
        units=unit,
        partitions=partition,
        biases=biases[partition],
        others=np.flatnonzero(others),
        ids=units.keys[0],
        keys=partitions.keys,
    )
    touched = np.diff(runs(unit), append=len(unit))
    limit = spec.bounds.partitions
    over = np.flatnonzero(np.repeat(touched > limit, touched))
    if not len(over):
        return pairs
    seed = hashing.seed_for(salt, "partitions of a unit in a round")
    unit_hashes = hashing.hash_column(units.keys[0], seed)
    key_hashes = hashing.mix_columns([hashing.hash_column(key, seed) for key in partitions.keys], partitions.size, seed)
    mixed = hashing.mix64(unit_hashes[unit[over]] ^ hashing.mix64(key_hashes, seed)[partition[over]], seed)
    order = np.lexsort((mixed, pairs.biases[over] == UNLISTED, unit[over]))
    starts = runs(unit[over][order])
    place = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    stays = np.ones(len(unit), dtype=np.bool_)
    stays[over[order[place >= limit]]] = False
    return pairs.only(stays, spec)


def chosen(batches: Sequence[pa.RecordBatch], spec: StageSpec, salt: bytes, known: EarlierRounds | None) -> Pairs:
    """The pairs that units give weight to: the sample of all their rows, less what they leave out.

    Guarantee: as `sample`'s: nothing that other units alone are in has a say in which of a unit's pairs these are.
    """
    pairs = sample(batches, spec, salt, known)
    return pairs.only(biases.worth_sending(pairs.units, pairs.biases), spec)


def split_by_unit(
    pairs: pa.RecordBatch, spec: StageSpec, shards: int, salt: bytes
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(shard, its pairs): all pairs of a unit go to one shard, the same from every batch. A shard may come twice."""
    seed = hashing.seed_for(salt, "route")
    ids = pairs.column(columns_of(spec)[0])
    owned, loose = pairs.filter(ids.is_valid()), pairs.filter(ids.is_null())
    yield from split(owned, hashing.hash_column(owned.column(0), seed), shards)
    keys = [hashing.hash_column(loose.column(name), seed) for name in spec.keys]
    yield from split(loose, hashing.mix_columns(keys, loose.num_rows, seed), shards)


def shares(pairs: Pairs) -> I64:
    """Each pair's share, by the biases that the round before found."""
    listed = pairs.biases != UNLISTED
    return weights.shares(pairs.units, np.where(listed, pairs.biases, weights.BIAS_ONE))


def weight_rows(pairs: Pairs, pair_shares: I64, spec: StageSpec) -> pa.RecordBatch:
    """The weight table of these pairs, for the shards of their partitions. A partition that no pair is of, but that the
    next round asks for (`others`), has a row of no units."""
    weighed = weights.count_units(pairs.partitions, pair_shares)
    none = np.zeros(len(pairs.others), dtype=np.int64)
    partitions, share, units, sums = (
        np.concatenate(columns)
        for columns in (
            (weighed.partitions, pairs.others),
            (weighed.shares, none),
            (weighed.units, none),
            (weighed.sums, none),
        )
    )
    nothing = np.zeros(len(units), dtype=np.int64)
    return _weight_rows_of(pairs, partitions, (share, units, sums, nothing, nothing), spec)


def sent_on(pairs: Pairs, pair_shares: I64, replies: Iterable[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """What the units send on, by partition, given the parts that partitions return."""
    returned, pairs_of = np.zeros(pairs.size), Lookup(keys=pairs.keys)
    for reply in replies:
        places = pairs_of.find([reply.column(name) for name in spec.keys])
        own = np.flatnonzero(places != ABSENT)
        returned[places[own]] = reply.column(PART).to_numpy()[own]
    high, low = weights.sent_on(pairs.units, pairs.partitions, pair_shares, returned, _denominator(spec), pairs.size)
    some = np.flatnonzero(high | low)
    nothing = np.zeros(len(some), dtype=np.int64)
    return _weight_rows_of(pairs, some, (nothing, nothing, nothing, high[some], low[some]), spec)


def returned(batches: Sequence[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """The partitions over their saturation, each with the part of every share that goes back; from sums of shares."""
    sums = weight_tables.summed(batches, spec)
    event = spec.weighing
    fractions = weights.returned(sums.column(SUM).to_numpy(), event.saturation, event.pre_threshold)
    some = np.flatnonzero(fractions > 0)
    over = sums.take(pa.array(some)).select(list(spec.keys))
    return over.append_column(pa.field(PART, pa.float64()), pa.array(fractions[some]))


def weigh(batches: Sequence[pa.RecordBatch], spec: StageSpec) -> pa.RecordBatch:
    """Each partition's units and its exact weight in steps of 2**-40, sorted by key.

    Guarantee: adding or removing one unit moves all weights together by l2 ≤ 1; a partition that the unit alone lifts
    to `pre_threshold` units weighs at most what `rounds.novel_weight` of the accounting room says (docs/accounting.md).
    """
    event = spec.weighing
    keys, shares, sent = weight_tables.read(batches, spec)
    size = len(keys[0])
    units, _ = weights.totals(shares, size)
    kept = weights.trimmed(shares, size, event.pre_threshold - 1)
    others = weights.sent_by_others(event.pre_threshold, event.l0, _denominator(spec))
    weight = weights.final(kept, event.saturation, sent if event.saturation else None, others)
    schema = pa.schema([*key_fields(spec), pa.field(UNITS, pa.int64()), pa.field(WEIGHT, pa.int64())])
    batch = weight_tables.rows(keys, [units, weight], schema)
    return batch.take(pc.sort_indices(batch, sort_keys=[(name, "ascending") for name in spec.keys]))


def check(event: WeightedThresholding) -> None:
    """Refuses noise that leaves no room for weights in int64. To be called before anything is charged.

    Raises:
        UsageError: σ is 2**16 or more, or the threshold or the saturation 2**19 or more.
    """
    if not (event.sigma < _MOST_SIGMA and max(event.threshold, event.saturation) < _MOST_WEIGHT):
        raise UsageError(
            f"stage {event.stage}: the noise of {event.metric} must be below {_MOST_SIGMA}, and what is compared with "
            f"it below {_MOST_WEIGHT}, got σ {event.sigma:g}, threshold {event.threshold:g}; raise epsilon or the "
            "selection's weight"
        )


def noise_of(spec: StageSpec) -> AdditiveNoise:
    """The round's Gaussian noise."""
    event = spec.weighing
    return AdditiveNoise(mechanism=Gaussian(stage=event.stage, metric=event.metric, sigma=event.sigma, l2=event.l2))


def draw(weighed: pa.RecordBatch, spec: StageSpec, noise: AdditiveNoise) -> pa.RecordBatch:
    """Keys, `__kept`, and `__bias` for the next round: of the partitions that are kept or, in MAD2R, have a prospect.

    Guarantee: noise is added once to each weight, exactly, at the planned σ; all that is said of a partition follows
    from its noisy weight, but that one with fewer than `pre_threshold` units is never kept. A partition that isn't kept
    may be in the table, with its bias: the table stays in the staging area and is seen by the next round alone.
    """
    event = spec.weighing
    units = weighed.column(UNITS).to_numpy()
    eligible = units >= event.pre_threshold
    following = spec.next_weighing if _biasing(spec) else None
    asked = np.flatnonzero(eligible | (following is not None))
    noisy = np.full(len(units), -np.inf)
    noisy[asked] = _noisy(weighed.column(WEIGHT).to_numpy()[asked], spec, noise)
    kept = eligible & (noisy >= event.threshold)
    if following is not None:
        listed = biases.biases(noisy, event.sigma, following)
    else:
        listed = np.full(len(units), UNLISTED, dtype=np.int64)
    some = np.flatnonzero(kept | (listed != UNLISTED))
    columns = [weighed.column(name).take(pa.array(some)) for name in spec.keys]
    schema = result_schema(spec)
    return pa.RecordBatch.from_arrays([*columns, pa.array(kept[some]), pa.array(listed[some])], schema=schema)


def _noisy(exact: I64, spec: StageSpec, noise: AdditiveNoise) -> F64:
    """Weights with noise. Cutting them down first never raises one, and moves none by a step of the planned noise."""
    cut = max(0, exponent_of(noise_of(spec).step / GRID.step))
    return noise.to_sums(exact >> cut, replace(GRID, step=math.ldexp(GRID.step, cut)))


def result_schema(spec: StageSpec) -> pa.Schema:
    """The schema of a round's result."""
    return pa.schema([*key_fields(spec), pa.field(KEPT, pa.bool_()), pa.field(BIAS, pa.int64())])


def _biasing(spec: StageSpec) -> bool:
    """Whether the next round has biases, and so asks for this one's noisy weights."""
    return spec.next_weighing is not None and spec.next_weighing.least_bias < 1


def _biases(keys: tuple[pa.Array, ...], spec: StageSpec, known: EarlierRounds | None) -> I64:
    """Each partition's bias: from what the round before told, where this one has biases."""
    if spec.weighing.least_bias == 1 or known is None:
        return np.full(len(keys[0]), weights.BIAS_ONE, dtype=np.int64)
    earlier = known.biases(keys)
    return np.where(earlier == UNLISTED, earlier, np.maximum(earlier, biases.least_of(spec.weighing)))


def _denominator(spec: StageSpec) -> int:
    return weights.denominator_of(spec.weighing.l0, spec.weighing.least_bias)


def _weight_rows_of(pairs: Pairs, partitions: I64, numbers: Sequence[I64], spec: StageSpec) -> pa.RecordBatch:
    return weight_tables.rows([key.take(pa.array(partitions)) for key in pairs.keys], numbers, weight_schema(spec))
