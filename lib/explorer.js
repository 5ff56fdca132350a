// Shows the panel that belongs to the chosen options. The page arrives with
// the starting panel drawn; see lib/explorer.py, which also explains the data.
(() => {
  const start = (root) => {
    const find = (selector) => root.querySelector(selector);
    const { options, columns, size, panels } =
      JSON.parse(find('script[type="application/json"]').textContent);
    const form = find("form"), sentence = find("[role=status]");
    const rows = [...root.querySelectorAll(".row")];
    const blank = find("template").content.firstElementChild;

    const fill = (cell, label, tile, caption, bar) => {
      const [picture, frame, words] = cell.children;
      const column = tile % columns, line = (tile - column) / columns;
      picture.style.backgroundPosition =
        `${-column * size[0]}px ${-line * size[1]}px`;
      const share = bar === undefined ? "" : `${bar}\u00a0%`;
      picture.setAttribute("aria-label",
        [label, caption, share].filter(Boolean).join(", "));
      frame.hidden = bar === undefined;
      frame.firstElementChild.style.width = `${bar || 0}%`;
      words.textContent = [caption, share].filter(Boolean).join(" ");
    };

    const show = (row, [label, tiles, captions = [], bars = []]) => {
      const [name, cells] = row.children;
      name.textContent = label;
      while (cells.children.length > tiles.length) cells.lastChild.remove();
      while (cells.children.length < tiles.length)
        cells.append(blank.cloneNode(true));
      tiles.forEach((tile, i) => fill(
        cells.children[i], label, tile, captions[i] || "", bars[i]));
    };

    const draw = () => {
      let number = 0; // of the panel: the last choice runs fastest
      options.forEach((labels, i) => {
        const chosen = Number(form.elements[`choice${i}`].value);
        number = number * labels.length + chosen;
        const slider = find(`input[type=range][name=choice${i}]`);
        if (!slider) return;
        slider.setAttribute("aria-valuetext", labels[chosen]);
        slider.closest("div").querySelector("output").textContent =
          labels[chosen];
      });
      const [text, ...shown] = panels[number];
      sentence.textContent = text;
      rows.forEach((row, i) => show(row, shown[i]));
    };

    form.hidden = false;
    find("[data-without-script]").hidden = true;
    form.addEventListener("input", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    find("button").addEventListener("click", () => { form.reset(); draw(); });
    draw();
  };

  // A property and no attribute marks what was started: a page saved from the
  // browser has the attributes but not the listeners.
  for (const root of document.querySelectorAll(".book-explorer"))
    if (!root.started) {
      root.started = true;
      start(root);
    }
})();
