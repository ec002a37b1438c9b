"""The command line: thin, and imports what a command needs inside it, so that --help is instant."""
