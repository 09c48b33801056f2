"""How Sphinx builds the site. Nothing here, and nothing on the pages, needs a network."""

import os
import sys
import tomllib
from pathlib import Path

import skood

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))
from gallery_order import SECTIONS  # noqa: E402
from linked_types import linked_types  # noqa: E402

# Networks as small as those of the gallery run faster on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "skood"
author = "The skood developers"
copyright = author
release = skood.__version__
version = ".".join(release.split(".")[:2])
addresses = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]["urls"]

# The addresses of the project, for its pages.
rst_epilog = f"""
.. _source: {addresses["Source"]}
.. _issues: {addresses["Issues"]}
"""

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "accessible",
    "any_path",
    "counterparts",
    "defaults",
    "descriptions",
    "gallery_thumbnails",
    "gallery_warnings",
    "in_batches",
    "link_names",
    "llms_txt",
    "markdown_file",
    "measured",
    "mathml",
    "paper_links",
    "result_tables",
    "search_entries",
    "source_links",
    "used_in",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/**.ipynb", "auto_examples/**.py"]
nitpicky = True

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = True
# Of the words in the types of parameters, only those below become links.
numpydoc_xref_ignore = "all"
numpydoc_xref_aliases = linked_types()
# The lists of their objects are kept here: python docs/make_inventories.py.
intersphinx_mapping = {
    name: (address, f"inventories/{name}.inv")
    for name, address in {
        "joblib": "https://joblib.readthedocs.io/en/stable/",
        "matplotlib": "https://matplotlib.org/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "pandas": "https://pandas.pydata.org/docs/",
        "python": "https://docs.python.org/3/",
        "scipy": "https://docs.scipy.org/doc/scipy/",
        "sklearn": "https://scikit-learn.org/stable/",
        "skorch": "https://skorch.readthedocs.io/en/stable/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}

html_theme = "pydata_sphinx_theme"
html_title = "skood"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_js_files = ["names.js", "scrolling.js"]
# The theme complains in the console of browsers where it is not set.
html_context = {"default_mode": "auto", "addresses": addresses}
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_search_scorer = str(DOCS / "_ext" / "search_order.js")
html_sidebars = {
    "about": [],
    "changelog": [],
    "install": [],
    "getting_started": [],
    "conventions": [],
    "glossary": [],
    "results": [],
}
html_theme_options = {
    "logo": {"text": "skood"},
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    "icon_links": [
        {"name": "Source", "url": addresses["Source"], "icon": "fa-brands fa-github"},
    ],
    "footer_start": ["copyright"],
    "footer_end": ["footer-links"],
    "show_prev_next": True,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "check_switcher": False,
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "backreferences_dir": "api/generated/backreferences",
    "doc_module": ("skood",),
    "subsection_order": [*SECTIONS, "*"],
    "within_subsection_order": "gallery_order.GalleryOrder",
    # Two processes, which read nothing of this file.
    "parallel": 2,
    "reset_modules": ("matplotlib", "gallery_warnings.set_up"),
    "image_scrapers": ("gallery_thumbnails.scrape",),
    "abort_on_example_error": True,
    "capture_repr": (),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
}
