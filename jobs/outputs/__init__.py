"""What jobs write: folders, single files, and the records beside them."""
