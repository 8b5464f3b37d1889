"""What jobs read: files, collections, rankings, published data sets."""
