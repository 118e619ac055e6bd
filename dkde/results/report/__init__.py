"""Reports: a result as one page for a browser, which needs nothing beside it."""
