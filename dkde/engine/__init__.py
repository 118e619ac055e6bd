"""Blocks of pairs: the plan, the lazy graph, and the run."""
