// What tools/print_book.py does to an open page before it is printed.

const ready = async () => {
  await window.MathJax?.startup?.promise;
  await document.fonts.ready;
};

// Unfolds questions, and puts what is folded behind the exercises to the end:
// a reader of paper should not see a solution beside its exercise.
const arrange = () => {
  const article = document.querySelector("article");
  article.querySelector("figure.book-cover")?.remove(); // on the title page
  const found = [...article.querySelectorAll(".solution")];
  for (const solution of found) solution.classList.remove("toggle-hidden");
  for (const box of article.querySelectorAll("details.book-folded"))
    box.open = true;
  for (const form of article.querySelectorAll("form.book-quiz")) {
    const answers = document.createElement("div");
    const title = document.createElement("p");
    title.innerHTML = "<strong></strong>";
    title.firstChild.textContent =
      `Answers to “${form.getAttribute("aria-label")}”`;
    const folded = form.querySelector("details");
    folded.querySelector("summary").remove();
    answers.append(title, ...folded.childNodes);
    folded.remove();
    found.unshift(answers);
  }
  if (!found.length) return;
  const last = document.createElement("section");
  last.id = "solutions-at-the-end";
  last.innerHTML = "<h2>Answers and solutions</h2>";
  last.append(...found);
  (article.querySelector("section") ?? article).append(last);
};

// Three frames of each figure that moves with a slider, in place of one.
const still = () => {
  for (const root of document.querySelectorAll(".book-explorer")) {
    const slider = root.querySelector("input[type=range]");
    if (!slider) continue;
    const row = slider.closest("div");
    const last = Number(slider.max);
    const frames = new Set([0, Math.round(last / 2), last]);
    for (const value of frames) {
      slider.value = value;
      slider.dispatchEvent(new Event("input", { bubbles: true }));
      const frame = document.createElement("div");
      const said = document.createElement("p");
      frame.className = "frame";
      said.append(
        Object.assign(document.createElement("strong"), {
          textContent: row.innerText.replace(/\s+/g, " ").trim() + ". ",
        }),
        root.querySelector("[role=status]").textContent,
      );
      const pictures = root.querySelector(":scope > [role=group]");
      frame.append(said, pictures.cloneNode(true));
      root.append(frame);
    }
    root.querySelectorAll(":scope > [role]").forEach((part) => part.remove());
    row.remove();
  }
};

// A browser tells where a part is only if the same page has a link to it.
const mark = (ids) => {
  const links = document.createElement("div");
  links.hidden = true;
  for (const id of ids) {
    const link = document.createElement("a");
    link.href = `#${id}`;
    links.append(link);
  }
  document.body.append(links);
};

// Formulas wider than the paper shrink.
const fit = () => {
  for (const formula of document.querySelectorAll(
    "article mjx-container[display=true]")) {
    const box = formula.closest("div.math") ?? formula.parentElement;
    const wide = formula.querySelector("mjx-math")?.scrollWidth ?? 0;
    const number = box.querySelector(".eqno")?.offsetWidth ?? 0;
    const room = box.clientWidth - number;
    if (wide > room)
      formula.style.fontSize = `${Math.floor(100 * room / wide)}%`;
  }
};

// What still sticks out of the paper: the first words of each.
const sticking = () => {
  const edge = document.querySelector("article").getBoundingClientRect().right;
  return [...document.querySelectorAll(
    "article :is(table, pre, img, svg, mjx-container, p, .cells)")]
    .filter((part) => part.checkVisibility()
      && !part.closest("mjx-assistive-mml, svg svg")
      && part.getBoundingClientRect().right > edge + 1)
    .map((part) => `${part.tagName} ${part.textContent.trim().slice(0, 40)}`);
};

const headings = () =>
  [...document.querySelectorAll("article :is(h1, h2)")].map((heading) => {
    const copy = heading.cloneNode(true);
    copy.querySelectorAll(".headerlink").forEach((link) => link.remove());
    return {
      level: Number(heading.tagName[1]),
      text: copy.textContent.replace(/\s+/g, " ").trim(),
      id: heading.closest("section[id]")?.id ?? "",
    };
  });

// Title page and contents in place of the first page, whose cover they keep.
const replace = (matter) => {
  const article = document.querySelector("article");
  const cover = article.querySelector("figure.book-cover");
  article.innerHTML = matter;
  if (cover) article.querySelector("h1").after(cover);
};

globalThis.paper =
  { ready, arrange, still, mark, fit, sticking, headings,
    replace };
