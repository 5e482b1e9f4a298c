"""What there is to do: listings, inventories, tables and embedded images, as one manifest."""
