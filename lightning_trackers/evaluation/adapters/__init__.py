"""Our trackers inside the official tools, each an optional package; see ``docs/adapters.md``."""
