"""One file for each kind of judge, and the registry that names them."""
