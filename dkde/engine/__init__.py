"""Blocks of pairs: the plan, the lazy graph, the run, and the workers that do it."""
