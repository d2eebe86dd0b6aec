"""The papers' tables: their numbers beside ours. ``python -m experiments.tables table=gradnet/table3``."""
