"""The command line, one module a group of commands; `carlib.cli` puts them together."""
