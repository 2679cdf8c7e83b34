"""How the decoder layers of a model compute while it trains: compiled, by other kernels, keeping less."""
