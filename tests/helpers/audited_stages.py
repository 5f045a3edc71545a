"""The metrics, selections and hierarchical keys that audits go through, as policies write them."""

from __future__ import annotations

from tests.helpers.audit import BANDS

VALUES = {"column": "value", "low": 0.0, "high": 10.0}
METRICS = {  # all but those that are made from the same noisy quantities as one of these
    "count": "count",
    "privacy_id_count": "privacy_id_count",
    "sum": {"sum": VALUES},
    "total": {"sum": {"column": "value", "low_total": 0.0, "high_total": 15.0}},
    "mean": {"mean": VALUES},
    "variance": {"variance": VALUES},
    "stddev": {"stddev": VALUES},
    "median": {"median": VALUES},
    "histogram": {"histogram": {"column": "value", "edges": [0, 4, 8, 12]}},
    "vector_sum": {"vector_sum": {"columns": ["value"], "norm": "l2", "max_norm": 10.0}},
    "distinct_count": {"distinct_count": {"column": "band"}},
    "top_k": {"top_k": {"column": "band", "k": 2, "max_values": 1}},
    "top_k of candidates": {"top_k": {"column": "band", "k": 2, "max_values": 1, "candidates": list(BANDS)}},
    "custom": {"custom": {"metric": "geometric_mean", "columns": ["value"], "params": {"low": 1, "high": 10}}},
}
PUBLIC = {"public": {"values": ["all"]}}
SELECTIONS = {
    "public": PUBLIC,
    "truncated_geometric": {"private": {"strategy": "truncated_geometric"}},
    "laplace_thresholding": {"private": {"strategy": "laplace_thresholding"}},
    "gaussian_thresholding": {"private": {"strategy": "gaussian_thresholding", "pre_threshold": 2}},
}
HIERARCHICAL = {
    "group_by": ["group", "place"],
    "partitions": {
        "private": {"strategy": "gaussian_thresholding", "pre_threshold": 20, "hierarchical": True, "weight": 0.3}
    },
    "bounds": {"l0": 25, "linf": 1},
}
