"""The user's database of resources and loads, and the selection of loads for a run."""
