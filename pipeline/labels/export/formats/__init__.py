"""The formats of other programs, each a `Shard` that is written while images come."""
