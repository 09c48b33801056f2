"""Figures of the gallery: thumbnails that can be read, and a text for those who cannot see them.

For a thumbnail the figure is drawn anew in a small size, with letters as large; sphinx-gallery
shrinks the picture of the page instead, and with it the letters.
"""

import re
import shutil
import warnings
from pathlib import Path

# Inches, with one diagram and with more.
SIZE, SIZE_OF_SEVERAL = (4.6, 3.22), (6, 4.2)
# Above so many images or diagrams there is no room for their titles.
MAX_TITLES = 4
FOLDER = "small"


def scrape(block, block_vars, gallery_conf):
    """Save the figures of a block of code as sphinx-gallery does, and one of them also small."""
    from matplotlib import pyplot as plt
    from sphinx_gallery.scrapers import matplotlib_scraper

    paths, source = block_vars["image_path_iterator"], Path(block_vars["src_file"])
    first = len(paths.paths) + 1
    for number, figure in enumerate(map(plt.figure, plt.get_fignums()), start=first):
        if not any(title.get_text() for title in titles_of(figure)):
            raise ValueError(
                f"Figure {number} of {source.name} has no title, which would be its alternative "
                "text. Give one to its axes, or to the figure by suptitle."
            )
        if number == chosen_number(source):
            folder = Path(paths.image_path).parent / FOLDER
            folder.mkdir(exist_ok=True)
            save_small(figure, folder / f"sphx_glr_{source.stem}_thumb.png")
    return matplotlib_scraper(block, block_vars, gallery_conf)


def chosen_number(source):
    """Number of the figure that an example names for its thumbnail; the first by default."""
    setting = r"^# sphinx_gallery_thumbnail_number = (\d+)$"
    found = re.search(setting, source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return int(found[1]) if found else 1


def save_small(figure, path):
    """Save a figure in the size of a thumbnail; the figure itself stays as it is."""
    size, n_axes = figure.get_size_inches().copy(), len(figure.axes)
    figure.set_size_inches(SIZE_OF_SEVERAL if n_axes > 1 else SIZE)
    titles = titles_of(figure) if n_axes > MAX_TITLES else []
    for title in titles:
        title.set_visible(False)
    with warnings.catch_warnings():
        # Of many small axes little is left; the picture shows whether too little.
        warnings.simplefilter("ignore")
        figure.savefig(path, dpi=600 / figure.get_size_inches()[0])
    for title in titles:
        title.set_visible(True)
    figure.set_size_inches(size)


def titles_of(figure):
    """Titles of all axes, of the figure and of its parts."""
    parts = [figure, *figure.subfigs]
    return [ax.title for ax in figure.axes] + [part._suptitle for part in parts if part._suptitle]


def replace_thumbnails(app):
    """Put the small figures in the place of the shrunk ones."""
    for path in Path(app.srcdir, "auto_examples").glob(f"*/images/{FOLDER}/*.png"):
        shutil.copy(path, path.parents[1] / "thumb" / path.name)


def setup(app):
    # After the gallery, whose priority is 500.
    app.connect("builder-inited", replace_thumbnails, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
