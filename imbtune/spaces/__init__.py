"""Search spaces: their files, their ranges, and the presets inside them."""
