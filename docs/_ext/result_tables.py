"""Tables that are read from files of results: they can be sorted, and say where they come from.

Beside a table of results, its folder has ``about.csv``, with the command and the date of the run.
"""

import csv
from pathlib import Path

from docutils import nodes
from sphinx.directives.patches import CSVTable


class ResultTable(CSVTable):
    """``csv-table``; a reader can sort those from a file, by sort_tables.js."""

    def run(self):
        made = super().run()
        if "file" not in self.options or Path(self.options["file"]).name == "about.csv":
            return made
        environment = self.state.document.settings.env
        _, path = environment.relfn2path(self.options["file"], environment.docname)
        if tables := [node for node in made if isinstance(node, nodes.table)]:
            tables[0]["classes"].append("sortable")
        return made + self.origin(Path(path))

    def parse_csv_data_into_rows(self, csv_data, dialect, source):
        """As docutils does; a lone hyphen, where there is no value, is no bullet of a list."""
        rows, n_columns = super().parse_csv_data_into_rows(csv_data, dialect, source)
        for *_, lines in (cell for row in rows for cell in row):
            if list(lines) == ["-"]:
                lines[0] = "\N{EN DASH}"
        return rows, n_columns

    def origin(self, path):
        """The line below the table; nothing, where no run is described."""
        about = path.with_name("about.csv")
        if not about.exists():
            return []
        self.state.document.settings.env.note_dependency(str(about))
        entries = dict(csv.reader(about.read_text(encoding="utf-8").splitlines()))
        command = entries["Command"].split(" --")[0]
        text = f"``{command}``, {entries['Date']}. :download:`CSV <{self.options['file']}>`"
        line = nodes.paragraph(classes=["origin"])
        line += self.state.inline_text(text, self.lineno)[0]
        return [line]


def setup(app):
    app.add_directive("csv-table", ResultTable, override=True)
    app.add_js_file("sort_tables.js")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
