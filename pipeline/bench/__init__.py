"""The engine beside what a torchvision user would write. Only `endtoend` needs Ray."""
