"""PipelineDP's own engine answers our queries: the oracle of the parity tests."""

from dpbeam.extras import require

require("pipelinedp")
