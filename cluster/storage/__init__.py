"""Files by URI, local or remote: list, read, and write so that a file is whole or absent.

Remote storage fails now and then: every call of a filesystem that `filesystem` gives is tried again a few times
while the fault may pass (5xx, throttling, a lost connection, no answer), and at once given up where it will not
(no such bucket, access denied). What is raised then names the URI in one line.
"""

from ray_rerank.cluster.storage.files import (
    READ_AHEAD,
    check_unchanged,
    check_writable,
    fingerprint,
    fingerprint_of,
    open_read,
    read_bytes,
    read_folder,
    remove,
    unchanged,
    write_whole,
    writing_whole,
)
from ray_rerank.cluster.storage.listing import StoredFile, find_files, list_files, names_below, stored_file
from ray_rerank.cluster.storage.paths import absolute, fault_of, filesystem, join, place

__all__ = [
    "READ_AHEAD",
    "StoredFile",
    "absolute",
    "check_unchanged",
    "check_writable",
    "fault_of",
    "filesystem",
    "find_files",
    "fingerprint",
    "fingerprint_of",
    "join",
    "list_files",
    "names_below",
    "open_read",
    "place",
    "read_bytes",
    "read_folder",
    "remove",
    "stored_file",
    "unchanged",
    "write_whole",
    "writing_whole",
]
