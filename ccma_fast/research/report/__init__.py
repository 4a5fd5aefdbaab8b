"""The report of a run: tables, figures and one page that holds both."""
