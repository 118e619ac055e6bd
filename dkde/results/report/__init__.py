"""Reports: a result as one page for a browser, complete in one file."""
