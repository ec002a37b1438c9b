"""The first screen of a report, in sentences."""
