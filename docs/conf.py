"""The documentation: ``python -m sphinx -W --keep-going -b html docs docs/_build/html``; see CONTRIBUTING.md."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

# `python -m sphinx` looks for modules in the current folder first, where the package has no compiled core unless it was
# built in place; then the installed package is documented.
if not any((ROOT / "ccma_fast").glob("_core.*.so")):
    sys.path[:] = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT]
sys.path.append(str(DOCS / "_extensions"))

import numpydoc.xref  # noqa: E402

import ccma_fast  # noqa: E402

numpydoc.xref.DEFAULT_LINKS.clear()  # to inventories of Python and NumPy, which no build downloads

project = "ccma_fast"
author = "The ccma_fast authors"
copyright = author
version = release = ccma_fast.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "api_reference",
    "command_line",
    "layers",
    "llms",
    "mathml",
    "method_pictures",
    "repository_pages",
]
exclude_patterns = ["_build", "gallery"]
default_role = "literal"  # docstrings name arguments in single backticks
nitpicky = True
nitpick_ignore = [("py:mod", "pathlib"), ("py:func", "warnings.warn"), ("py:class", "BlockingIOError")]

# The reference. Types stand in the docstrings, which say more than annotations: shapes, dtypes, units.
autodoc_default_options = {
    "members": True,
    "inherited-members": "NamedTuple,tuple,list,Exception",
    "member-order": "bysource",
}
autodoc_typehints = "none"
autosummary_generate = False
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = {name: f"ccma_fast.{name}" for name in ccma_fast.__all__ if name[0].isupper()}

# Markdown
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "substitution"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

# HTML
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"ccma_fast {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_exclude = ".linenos, .gp, .go"

# The gallery's scripts are run by every build that finds them changed.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"(^|/)_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "plot_gallery": "True",
    "write_computation_times": False,
}
