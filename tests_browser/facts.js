// What a test asks of the page that is open. Run in the page by visits.py.
(() => {
  const all = (selector, root = document) =>
    [...root.querySelectorAll(selector)];
  // enough of an element to find it again in the source
  const name = (element) => {
    const words = (element.textContent || "").trim().replace(/\s+/g, " ");
    const kind = element.tagName.toLowerCase();
    const classes = [...element.classList].map((c) => `.${c}`).join("");
    return `<${kind}${classes}> ${words.slice(0, 60)}`;
  };
  const seen = (element) => element.checkVisibility();

  // Everything that a click unfolds.
  const unfold = () => {
    all("details").forEach((part) => { part.open = true; });
    all(".toggle-button-hidden").forEach((button) => button.click());
  };

  const words = () => {
    const found = [];
    const skip = "code, pre, script, style, template, mjx-container, textarea";
    const walk = document.createTreeWalker(
      document.querySelector("article") || document.body,
      NodeFilter.SHOW_TEXT);
    for (let node = walk.nextNode(); node; node = walk.nextNode())
      if (!node.parentElement.closest(skip)) found.push(node.textContent);
    return found;
  };

  const mathematics = () => ({
    // raw TeX between the words: \( \[ \alpha $x$
    raw: words().flatMap((text) =>
      text.match(/\\[a-zA-Z([].{0,30}|\$[^$\s][^$]{0,60}\$/g) || []),
    untouched: all(".math").filter(
      (part) => !part.querySelector("mjx-container")).map(name),
    // an unknown command is printed in red, other mistakes as an error
    wrong: [
      ...all("mjx-merror, [data-mjx-error]"),
      ...all("mjx-assistive-mml mtext").filter(
        (part) => /^\\/.test(part.textContent)),
    ].map(name),
    formulas: all("mjx-container").length,
    fonts: [...document.fonts].filter((font) => font.status === "error")
      .map((font) => font.family),
  });

  const unnamed = () => all(
    "article img, article canvas, figure.book-figure svg, article [role=img]")
    .filter((part) => !part.closest("[aria-hidden=true], svg svg"))
    .filter((part) => {
      const label = part.getAttribute("alt") || part.getAttribute("aria-label");
      return !(label || "").trim() && !part.querySelector(":scope > title");
    }).map(name);

  const anchors = () => ({
    ids: all("[id], a[name]").map((part) => part.id || part.name),
    links: all("a[href]").map((link) => link.href),
  });

  // What makes the page wider than the window.
  const sticking = () => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const boxed = (part) => part && (boxed(part.parentElement)
      || getComputedStyle(part).overflowX !== "visible");
    const out = all("body *").filter((part) => {
      const box = part.getBoundingClientRect();
      return seen(part) && box.width > 0 && box.right > width + 1
        && !boxed(part.parentElement);
    });
    const inmost = out.filter(
      (part) => !all("*", part).some((p) => out.includes(p)));
    return [`${document.documentElement.scrollWidth} px wide`,
      ...inmost.slice(0, 8).map(name)];
  };

  // Parts of the text that are cut: wider than their box, which hides the
  // rest and does not scroll.
  const cut = () => all("article *").filter((part) => {
    const style = getComputedStyle(part);
    // a formula has a second, invisible version of another width
    const inner = part.querySelector(":scope > mjx-container");
    const width = inner ? inner.offsetWidth : part.scrollWidth;
    return seen(part) && width > part.clientWidth + 2
      && part.clientWidth > 0 && !part.closest("mjx-container, svg, select")
      && ["hidden", "clip"].includes(style.overflowX)
      && !(style.position === "absolute" && part.clientWidth <= 1);
  }).map(name);

  // The smallest words in each figure, in pixels of the screen.
  const letters = () => all("article figure svg, article .toy-sliders svg")
    .filter((svg) => seen(svg) && !svg.closest("svg svg"))
    .map((svg) => {
      // an exponent is smaller than its base; the largest part counts
      const sizes = all("text", svg).filter((t) => t.textContent.trim())
        .map((t) => [
          Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b) * Math.max(
            ...[t, ...all("tspan", t)].filter((part) =>
              [...part.childNodes].some((n) => n.nodeType === 3
                && n.data.trim()))
              .map((part) => parseFloat(getComputedStyle(part).fontSize))),
          t.textContent.trim()]);
      const least = sizes.reduce((a, b) => (b[0] < a[0] ? b : a), [99, ""]);
      return { size: least[0], text: least[1],
        figure: (svg.getAttribute("aria-label") || "").slice(0, 60) };
    }).filter(({ text }) => text);

  // Of the boxes named, those whose inside is cut at the side until moved.
  const scrolling = (boxes) => all(boxes).filter((part) => seen(part)
    && part.scrollWidth > part.clientWidth + 1).map(name);

  // Boxes that scroll sideways and that the keyboard does not reach.
  const unreachable = () => all("article *").filter((part) => {
    const style = getComputedStyle(part);
    return seen(part) && part.scrollWidth > part.clientWidth + 1
      && ["auto", "scroll"].includes(style.overflowX)
      && part.tabIndex < 0 && !part.querySelector("a, button, input, [tabindex]");
  }).map(name);

  // Take away what axe would spend most of its time on: the insides of
  // formulas, which have the colour of the text around them, and of drawings,
  // one image to who hears the page; of each kind of word in code, all but one.
  const thin = () => {
    all("mjx-container, article svg[role=img]").forEach(
      (part) => part.replaceChildren());
    const kinds = new Set();
    for (const word of all("pre span[class]")) {
      const box = word.closest("div.highlight").parentElement;
      const kind = `${word.className} ${box.className} ${box.style.cssText}`;
      if (kinds.has(kind)) word.replaceWith(word.textContent);
      kinds.add(kind);
    }
  };

  // The findings of axe; what lies within a part that the list of the theme's
  // findings names is told apart. Comes last, as it thins out the page.
  const access = async (known) => {
    thin();
    const { violations } = await axe.run({
      resultTypes: ["violations"], elementRef: true, preload: false });
    const ours = [], theirs = [];
    for (const { id, help, nodes } of violations)
      for (const { element, target, any, all: every, none } of nodes) {
        const entry = known.findIndex(
          ({ rule, within }) => rule === id && element?.closest(within));
        const why = [...any, ...every, ...none].map((c) => c.message)[0];
        if (entry >= 0) theirs.push(entry);
        else ours.push(`${id}: ${help}: ${target.join(" ")}: ${why || ""}`);
      }
    return { ours, theirs: [...new Set(theirs)] };
  };

  // --- controls ------------------------------------------------------------
  const live = ".toy-sliders, .book-explorer, form.book-quiz";
  const state = (root) => {
    const copy = root.cloneNode(true);
    all(".controls, style, script, template", copy).forEach((p) => p.remove());
    return copy.innerHTML;
  };
  const strays = () =>
    all("article input, article select, article textarea, article canvas")
      .filter((part) => !part.closest(live)).map(name);

  window.facts = {
    unfold, mathematics, unnamed, anchors, sticking, cut, letters,
    scrolling, unreachable, access, live, state, strays,
  };
})();
