"""Beam jobs, their options and the runners they may run on."""
