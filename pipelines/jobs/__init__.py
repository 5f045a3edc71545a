"""Beam jobs, their options and the runners they may run on."""

from dpbeam.extras import require

require("beam")
