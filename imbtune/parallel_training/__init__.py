"""`imbtune train --workers`: a final run trained by several workers of Ray Train at once."""
