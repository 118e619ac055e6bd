"""Results that are read again: compared, exported, plotted, reported."""
