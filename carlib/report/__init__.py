"""A profile's report: one page of all its tables and figures."""
