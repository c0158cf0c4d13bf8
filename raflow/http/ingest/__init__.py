"""What collectors do with requests: read records, call the function, write, and reply for each."""
