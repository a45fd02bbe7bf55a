"""The generated tables of README.md, REPLICATION.md and docs/ (`carlib report --readme`)."""
