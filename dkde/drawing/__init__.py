"""What is shown: curves, maps, tables and summaries, on axes, as text and as HTML."""
