/* What is wider than the page scrolls inside its box: fade the side on which more is hidden, and let
   the keyboard reach it. */
"use strict";

const BOXES = ".pst-scrollable-table-container, .highlight pre, div.math";

function mark(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  const isWide = hidden > 1;
  box.classList.toggle("more-left", isWide && box.scrollLeft > 1);
  box.classList.toggle("more-right", isWide && box.scrollLeft < hidden - 1);
  if (isWide) {
    box.tabIndex = 0;
  }
}

document.addEventListener("DOMContentLoaded", () => {
  const observer = new ResizeObserver((entries) => entries.forEach((entry) => mark(entry.target)));
  for (const box of document.querySelectorAll(BOXES)) {
    box.addEventListener("scroll", () => mark(box), { passive: true });
    observer.observe(box);
  }
});
