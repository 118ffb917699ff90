"""How the pages of this folder become a site: `make docs` writes it to site/."""

project = "certserve"
extensions = ["myst_parser", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "certserve"
html_show_copyright = False
exclude_patterns = ["generate.py"]
