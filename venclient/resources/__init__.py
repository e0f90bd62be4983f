"""The user's database of resources and loads: which there are, what the VTN calls them, and which a run takes."""
