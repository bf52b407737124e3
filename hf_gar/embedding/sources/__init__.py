"""What can be embedded: folders, lists of files, tables, tar files and datasets."""
