"""A folder on disk or in a bucket: whole files, checksums, patience with a storage that fails."""

from imbtune.storage.store import Store, join

__all__ = ["Store", "join"]
