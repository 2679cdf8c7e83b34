"""Tables of a study, declared as layouts."""
