"""The steps of the method, each a module that knows nothing of a query."""
