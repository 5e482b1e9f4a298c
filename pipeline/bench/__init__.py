"""The engine measured, beside what a user of torchvision would write."""
