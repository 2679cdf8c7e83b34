"""The task families, a file for each theme; importing a file registers its families (`harness.data.builtin.core`)."""
