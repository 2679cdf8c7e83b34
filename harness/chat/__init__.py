"""Talk to trained models in the terminal."""
