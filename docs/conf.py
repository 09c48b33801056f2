"""How Sphinx builds the site. Nothing here, and nothing on the pages, needs a network."""

import linecache
import os
import sys
import warnings
from pathlib import Path

import skood

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from gallery_order import SECTIONS

# Networks as small as those of the gallery run faster on one thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "skood"
author = "The skood developers"
copyright = author
release = skood.__version__
version = ".".join(release.split(".")[:2])

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "any_path",
    "counterparts",
    "defaults",
    "in_batches",
    "measured",
    "mathml",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "auto_examples/**.ipynb", "auto_examples/**.py"]
nitpicky = True
# Classes of other libraries: their sites are not asked at build time.
nitpick_ignore_regex = [("py:.*", r"(joblib|numpy|pandas|scipy|skorch|sklearn|torch)\..*")]

autosummary_generate = True
autodoc_typehints = "none"
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

html_theme = "pydata_sphinx_theme"
html_title = "skood"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
html_sidebars = {
    "install": [],
    "getting_started": [],
    "conventions": [],
    "glossary": [],
    "results": [],
}
html_theme_options = {
    "logo": {"text": "skood"},
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
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
    "abort_on_example_error": True,
    "capture_repr": (),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "write_computation_times": False,
}
# Among them: matplotlib cannot show figures while the gallery is built.
warnings.filterwarnings("ignore", message=".*FigureCanvasAgg is non-interactive.*")


def _without_folders(message, category, filename, lineno, line=None):
    """A warning as examples print it, without the folders of the machine that builds the site."""
    line = linecache.getline(filename, lineno) if line is None else line
    return _format_warning(message, category, Path(filename).name, lineno, line)


_format_warning, warnings.formatwarning = warnings.formatwarning, _without_folders
