"""Networks run by something else than torch."""
