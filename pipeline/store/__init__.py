"""Any bucket or disk: its URLs, its objects, and what its errors mean."""
