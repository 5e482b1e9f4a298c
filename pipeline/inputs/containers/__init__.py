"""Images that are no files of their own: rows of Parquet, members of tar and zip."""
