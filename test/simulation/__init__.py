"""Deterministic simulation of the whole daemon under storms from a seed; see ``docs/simulation.md``."""
