"""`imbtune serve`: the reports of all studies under a folder as live pages."""
