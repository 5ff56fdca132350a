// Counts a quiz's right answers. The page arrives with the questions and,
// folded, the answers; see lib/quiz.py.
(() => {
  const start = (form) => {
    const { answers, tail, chance, passed, missed } =
      JSON.parse(form.querySelector('script[type="application/json"]')
        .textContent);
    const said = form.querySelector("[role=status]");
    const parts = (name) => [...form.querySelectorAll(`[data-${name}]`)];
    // a mark for each question; in quizzes in words also a reason, and what
    // to read after a wrong answer
    const marks = parts("mark"), whys = parts("why"), reads = parts("read");

    const score = () => {
      const given = answers.map((_, i) => form.elements[`question${i}`].value);
      const open = given.filter((value) => value === "").length;
      if (open > 0) {
        said.textContent = open === 1
          ? "One question is still open." : `${open} questions are still open.`;
        return;
      }
      const right = given.map((value, i) => Number(value) === answers[i]);
      const count = right.filter(Boolean).length;
      right.forEach((good, i) => {
        marks[i].textContent = good ? "✔ right" : "✘ wrong";
      });
      whys.forEach((why) => { why.hidden = false; });
      reads.forEach((read, i) => { read.hidden = right[i]; });
      const comment = !tail ? (count < answers.length ? missed : passed)
        : `Guessing gives ${chance} on average, and at least ${count} in `
          + `${tail[count]} of all attempts.`;
      said.textContent = `${count} of ${answers.length} right. ${comment}`;
    };

    form.querySelector("[data-needs-script]").hidden = false;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      score();
    });
    form.addEventListener("reset", () => {
      said.textContent = "";
      marks.forEach((mark) => { mark.textContent = ""; });
      whys.forEach((why) => { why.hidden = true; });
    });
  };

  for (const form of document.querySelectorAll("form.book-quiz"))
    if (!form.started) { // a property, which a saved page does not keep
      form.started = true;
      start(form);
    }
})();
