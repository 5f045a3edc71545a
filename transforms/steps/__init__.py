"""The steps of the data flow, in its order: read, validate, bound, accumulate, select, noise, write."""

from dpbeam.extras import require

require("beam")
