"""A table's data model, and its text, Markdown, CSV, LaTeX and HTML."""
