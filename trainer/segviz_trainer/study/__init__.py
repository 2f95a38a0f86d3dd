"""A study's report: what its rows' records say, compared case by case, as tables, files and one page."""
