"""Results read again: compared, exported, plotted, reported."""
