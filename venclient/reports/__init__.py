"""Reports for people: the check of a meter file, the status of an upload, and the result of a verification."""
