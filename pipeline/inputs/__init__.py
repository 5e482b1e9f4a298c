"""What there is to do: listings, tables and embedded images, as one manifest."""
