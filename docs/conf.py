"""How the pages are built: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "bulk-upload"
html_title = "bulk-upload"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "reference"]
html_theme = "furo"
html_static_path = ["_static"]
html_show_copyright = False
html_css_files = ["pages.css"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
copybutton_prompt_text = "$ "  # of a console session, only the commands are copied
copybutton_line_continuation_character = "\\"
suppress_warnings = ["misc.highlighting_failure"]  # what commands print is no console session to Pygments
