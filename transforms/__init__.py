"""Beam PTransforms, one module a step of the data flow: thin, over `dpbeam.engine`."""
