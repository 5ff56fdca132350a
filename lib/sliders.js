// The interactive figures of the toy chapters. Three parts: the formulas of
// the toy model (the same as lib/toy.py), the scenes (the same as
// lib/sliders_scenes.py; a test compares the two) and the drawing. The page
// arrives with the figure drawn for the starting values; the script only
// replaces path data, positions and text.
const toySliders = (() => {
  // --- formulas ----------------------------------------------------------
  const phi = (u) => Math.exp(-u * u / 2) / Math.sqrt(2 * Math.PI);

  // Normal distribution function: a series near 0, a continued fraction in
  // the tails; both exact to about 1e-15.
  const Phi = (u) => {
    const x = Math.abs(u);
    let tail;
    if (x < 3) {
      let term = x, sum = x;
      for (let i = 1; i < 70; i++) sum += (term *= x * x / (2 * i + 1));
      tail = 0.5 - phi(x) * sum;
    } else {
      let rest = 0;
      for (let i = 60; i > 0; i--) rest = i / (x + rest);
      tail = phi(x) / (x + rest);
    }
    return u < 0 ? tail : 1 - tail;
  };

  const bayesTau = (p, m) => {
    const odds = Math.log(p / (1 - p));
    return m > 0 ? odds / (2 * m) : (odds > 0 ? Infinity : 0);
  };

  const toy = (d, p, eta) => {
    const root = Math.sqrt(d), m = eta * root;
    const mix = (a, b) => p * Phi(a) + (1 - p) * Phi(b);
    const bestTau = (eps) =>
      eps < 1 ? bayesTau(p, Math.max(eta - eps, 0) * root) : 0;
    return {
      m, bestTau,
      gate: (tau, eps) => {
        const left = m - eps * root;
        return eps < 1 ? mix(left + tau, left - tau)
          : Phi(left - Math.abs(tau));
      },
      linear: (tau, eps) => {
        const left = m - eps * root - eps * Math.abs(tau);
        return mix(left + tau, left - tau);
      },
      bound: (delta) => p / (1 - p) * delta,
      slack: (tau) => (2 * p - 1) / (1 - p) * Phi(-tau - m),
      best: (eps) => {
        const left = Math.max(eta - eps, 0) * root, tau = bestTau(eps);
        return eps < 1 ? mix(left + tau, left - tau) : Phi(left);
      },
    };
  };

  // --- scenes ------------------------------------------------------------
  const spread = (low, high, count) =>
    Array.from({ length: count }, (_, i) =>
      low + (high - low) * i / (count - 1));
  const level = (x, low, high) => [[x, low], [x, high]];

  const shift = ({ p, m, log_d, ratio, tau }) => {
    const d = Math.round(10 ** log_d), eta = m / Math.sqrt(d);
    const t = toy(d, p, eta), eps = ratio * eta, left = m * (1 - ratio);
    const bell = (centre) =>
      spread(-10, 10, 161).map((z) => [z, phi(z - centre)]);
    return {
      xlim: [-10, 10], ylim: [0, 0.45],
      curves: {
        plus_before: bell(m), minus_before: bell(-m),
        plus_after: bell(left), minus_after: bell(-left),
        gate_up: level(-tau, 0, 0.45), gate_down: level(tau, 0, 0.45),
      },
      marks: {},
      values: {
        d, eta, eps, tau,
        avg_standard: t.gate(0, 0), avg_robust: t.gate(0, eps),
        gate_standard: t.gate(tau, 0), gate_robust: t.gate(tau, eps),
        linear_robust: t.linear(tau, eps),
        x1_standard: p, x1_robust: eps < 1 ? p : 0,
      },
    };
  };

  const plane = ({ p, m, log_d, tau }) => {
    const d = Math.round(10 ** log_d), eta = m / Math.sqrt(d);
    const t = toy(d, p, eta), eps = 2 * eta, start = bayesTau(p, m);
    const far = Math.max(start, m) + 8;
    const trace = (rule, taus) => taus.map((s) => [t.gate(s, 0), rule(s, eps)]);
    const here = t.gate(tau, 0);
    return {
      xlim: [p, 1], ylim: [0, 1],
      curves: {
        bound: [[p, t.bound(1 - p)], [1, 0]],
        linear: trace(t.linear, spread(0, far, 161)),
        wasteful: trace(t.gate, spread(0, start, 41)),
        frontier: trace(t.gate, spread(start, far, 121)),
      },
      marks: {
        x1: [p, p], bayes: [t.gate(start, 0), t.gate(start, eps)],
        gate: [here, t.gate(tau, eps)], line: [here, t.linear(tau, eps)],
      },
      values: {
        d, eta, eps, tau, bayes_tau: start, standard: here,
        gate_robust: t.gate(tau, eps), linear_robust: t.linear(tau, eps),
        bound: Math.min(t.bound(1 - here), 1), slack: t.slack(tau),
      },
    };
  };

  const budget = ({ p, m, log_d, eps, tau }) => {
    const d = Math.round(10 ** log_d), eta = m / Math.sqrt(d);
    const t = toy(d, p, eta);
    // both sides of the steps at eta and 1 are on the grid
    const grid = spread(0, 1.2, 241).concat(
      [eta - 1e-9, eta, 1 - 1e-9, 1]).filter((e) => e >= 0 && e <= 1.2);
    grid.sort((a, b) => a - b);
    const trace = (f) => grid.map((e) => [e, f(e)]);
    const price = (e) => // nothing but a constant is left: one half
      (e >= Math.max(1, eta) ? 0.5 : t.gate(t.bestTau(e), 0));
    return {
      xlim: [0, 1.2], ylim: [0.4, 1],
      curves: {
        price: trace(price), chosen: trace((e) => t.gate(tau, e)),
        best: trace(t.best), now: level(eps, 0.4, 1),
      },
      marks: { best_now: [eps, t.best(eps)] },
      values: {
        d, eta, eps, tau, times: eps / eta, best: t.best(eps),
        price: price(eps), chosen: t.gate(tau, eps),
        chosen_standard: t.gate(tau, 0),
      },
    };
  };

  const scenes = { shift, plane, budget };

  // --- drawing -----------------------------------------------------------
  const percent = (v, digits) => `${(100 * v).toFixed(digits)}\u00a0%`;
  const written = {
    percent: (v) => percent(v, 2), tenth: (v) => percent(v, 1),
    hundred: (v) => percent(v, 0), whole: (v) => v.toFixed(0),
    small: (v) => v.toExponential(1).replace("+", ""),
    number: (v) => v.toFixed(2), fine: (v) => v.toFixed(4),
    power: (v) => Math.round(10 ** v).toFixed(0),
  };

  const start = (root) => {
    const scene = scenes[root.dataset.figure];
    const inputs = [...root.querySelectorAll("input[type=range]")];
    const svg = root.querySelector("svg");
    const box = svg.dataset.box.split(" ").map(Number);
    const all = (selector) => root.querySelectorAll(selector);

    const draw = () => {
      const settings = {};
      for (const input of inputs) {
        const value = Number(input.value);
        settings[input.name] = value;
        const text = written[input.dataset.format](value);
        input.setAttribute("aria-valuetext", text);
        input.closest("div").querySelector("output").textContent = text;
      }
      const { xlim, ylim, curves, marks, values } = scene(settings);
      const place = ([x, y]) => [
        box[0] + (x - xlim[0]) / (xlim[1] - xlim[0]) * box[2],
        box[1] + (ylim[1] - y) / (ylim[1] - ylim[0]) * box[3],
      ].map((v) => v.toFixed(2));
      for (const path of all("[data-curve]")) {
        const points = curves[path.dataset.curve].map((q) => place(q).join(","));
        path.setAttribute("d", `M${points.join("L")}`);
      }
      for (const mark of all("[data-mark]")) {
        const at = place(marks[mark.dataset.mark]).join(",");
        mark.setAttribute("transform", `translate(${at})`);
      }
      for (const tick of all("[data-tick]")) {
        const [low, high] = tick.dataset.axis === "x" ? xlim : ylim;
        const value = low + (high - low) * Number(tick.dataset.tick);
        tick.textContent = written[tick.dataset.format](value);
      }
      for (const cell of all("[data-value]"))
        cell.textContent = written[cell.dataset.format](
          values[cell.dataset.value]);
    };

    root.dataset.live = "yes";
    for (const part of all("[data-needs-script]")) part.hidden = false;
    for (const input of inputs) input.addEventListener("input", draw);
    root.querySelector("button").addEventListener("click", () => {
      for (const input of inputs) input.value = input.defaultValue;
      draw();
    });
    draw();
  };

  const startAll = () => document
    .querySelectorAll(".toy-sliders:not([data-live])").forEach(start);

  return { Phi, toy, scenes, startAll };
})();
