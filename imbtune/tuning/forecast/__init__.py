"""What a search would take: trial speeds, simulated time, and how many trials share a GPU."""
