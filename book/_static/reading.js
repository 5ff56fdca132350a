// Small helps for readers, on every page.
//
// What is wider than the page scrolls inside its own box: code, formulas,
// tables, figures. Here such a box becomes reachable with the Tab key, from
// where the arrow keys move it, and only while there is something to scroll.
(() => {
  const boxes = "article :is(pre, figure, mjx-container, .book-wide, "
    + ".book-scroll, .cell_output .output, [data-scrolls], "
    + ".pst-scrollable-table-container)";

  const update = () => {
    // the theme cuts what does not fit of a formula in a line of text
    for (const part of document.querySelectorAll("article span.math")) {
      const formula = part.querySelector("mjx-container");
      part.classList.toggle(
        "book-wide", formula?.offsetWidth > part.clientWidth + 1);
    }
    for (const box of document.querySelectorAll(boxes)) {
      const scrolls = box.scrollWidth > box.clientWidth + 1
        && ["auto", "scroll"].includes(getComputedStyle(box).overflowX);
      if (scrolls && !box.hasAttribute("tabindex")) {
        box.tabIndex = 0;
        box.dataset.scrolls = "";
      } else if (!scrolls && "scrolls" in box.dataset) {
        box.removeAttribute("tabindex");
        delete box.dataset.scrolls;
      }
    }
  };

  // When all is drawn, unfolded or turned round.
  let waiting = 0;
  const later = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(update);
  };
  addEventListener("load", () => {
    new ResizeObserver(later).observe(document.body);
    window.MathJax?.startup?.promise.then(later);
  });
  addEventListener("toggle", later, true);
})();

// A full stop after a formula does not begin a line of its own.
addEventListener("DOMContentLoaded", () => {
  for (const part of document.querySelectorAll("article span.math")) {
    const text = part.nextSibling;
    const mark = text?.nodeType === 3 && text.data.match(/^[.,;:?!)\]]+/)?.[0];
    // a long formula scrolls in its own box, which has to stay the line's
    if (!mark || part.textContent.length > 30) continue;
    const together = document.createElement("span");
    together.style.whiteSpace = "nowrap";
    part.before(together);
    together.append(part, mark);
    text.data = text.data.slice(mark.length);
  }
});

// From a folder a page cannot read another one, so a search shows no lines of
// the pages it finds; and the pack of the book is not in the pack.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
  addEventListener("DOMContentLoaded", () => {
    for (const link of document.querySelectorAll(".btn-download-book-button"))
      link.closest("li").remove();
  });
}

// Paper is white: the light theme while a page is printed. And the numbers
// that tables fold away are unfolded on it.
(() => {
  const root = document.documentElement.dataset;
  let before, folded = [];
  addEventListener("beforeprint", () => {
    before = root.theme;
    root.theme = "light";
    folded = [...document.querySelectorAll("details.book-more:not([open])")];
    for (const part of folded) part.open = true;
  });
  addEventListener("afterprint", () => {
    root.theme = before;
    for (const part of folded) part.open = false;
  });
})();
