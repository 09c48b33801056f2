/* Tables of results are sorted by a click on the title of a column, or a key on it: numbers with units by
   their values, the largest first, since most are scores, and texts by the alphabet. */
"use strict";

const FACTORS = {
  ns: 1e-9, µs: 1e-6, μs: 1e-6, us: 1e-6, ms: 1e-3, s: 1, min: 60, h: 3600,
  B: 1, kB: 1e3, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30,
  k: 1e3, M: 1e6,
};

/* The number that a cell begins with, in the basic unit; NaN for texts. */
function valueOf(text) {
  const found = text
    .replace(/(\d),(?=\d{3}(\D|$))/g, "$1")
    .replace("−", "-")
    .match(/^\s*[<>≤≥≈~]?\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(?:\s*±\s*\S+)?\s*(\p{L}+)?/iu);
  return found ? Number(found[1]) * (FACTORS[found[2]] ?? 1) : NaN;
}

function sortRows(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => {
    const text = row.cells[column]?.textContent.trim() ?? "";
    return { row, text, value: valueOf(text) };
  });
  const isNumber = ({ value }) => !Number.isNaN(value);
  // What is no number stays below, whichever way the numbers go.
  rows.sort((a, b) => {
    if (isNumber(a) && isNumber(b)) return direction * (a.value - b.value);
    if (isNumber(a) !== isNumber(b)) return isNumber(a) ? -1 : 1;
    if (!a.text || !b.text) return a.text ? -1 : b.text ? 1 : 0;
    return direction * a.text.localeCompare(b.text);
  });
  rows.forEach(({ row }, i) => {
    row.classList.remove("row-even", "row-odd");
    row.classList.add(i % 2 ? "row-odd" : "row-even");
    body.append(row);
  });
  return rows.some(isNumber);
}

function sortBy(table, header) {
  const hasNumbers = [...table.tBodies[0].rows].some(
    (row) => !Number.isNaN(valueOf(row.cells[header.cellIndex]?.textContent ?? "")),
  );
  const before = header.ariaSort;
  const descends = before ? before === "ascending" : hasNumbers;
  sortRows(table, header.cellIndex, descends ? -1 : 1);
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.ariaSort = descends ? "descending" : "ascending";
}

document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.sortable"))
    for (const header of table.querySelectorAll("thead tr:last-child th")) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => sortBy(table, header));
    }
});
