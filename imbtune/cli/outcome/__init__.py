"""How a search ended, for the terminal."""
