"""Test other people's operators with what KAITO tests its own with: API servers to run on, faults to live through."""
