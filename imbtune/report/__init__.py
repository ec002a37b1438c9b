"""The report: what a study's tables say as frames, charts, sentences, and one HTML page."""
