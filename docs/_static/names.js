/* Names for what has an icon alone: the arrows beside the sidebar's entries that have pages below them. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll(".has-children > details > summary")) {
    const entry = summary.closest(".has-children").querySelector("a");
    summary.ariaLabel = `Pages of ${entry.textContent.trim()}`;
  }
});
