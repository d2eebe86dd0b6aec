"""One reader per benchmark."""
