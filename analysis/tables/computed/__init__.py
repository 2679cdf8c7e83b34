"""Tables that are computed rather than laid out."""
