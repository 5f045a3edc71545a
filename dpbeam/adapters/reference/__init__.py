"""PipelineDP's own engine answers our queries: the oracle of the parity tests."""
