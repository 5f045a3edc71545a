"""Beam jobs, the release lifecycle and the command line."""
