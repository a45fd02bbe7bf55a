"""One module a question: what a notebook asks, measured, as a table with verdicts and as figures."""
