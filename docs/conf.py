"""How the pages are built: `make docs`."""

project = "bulk-upload"
html_title = "bulk-upload"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
suppress_warnings = ["misc.highlighting_failure"]  # what commands print is no console session to Pygments
