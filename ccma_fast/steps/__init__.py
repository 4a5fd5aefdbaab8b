"""The steps of the method, each a module that does not depend on a query."""
