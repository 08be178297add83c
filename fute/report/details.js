/* What is known of a subject: the tooltip, and the panel of the pinned one. */

function factLines(subject) {
  const lines = [[subject.kind === "dataset" ? "dataset" : "model", inWords(subject.type)]];
  if (subject.score !== null) lines.push(["held out", heldOut(subject)]);
  if (subject.cost?.usd > 0) lines.push(["asking cost", dollars(subject.cost.usd)]);
  if (subject.task !== null && subject.task !== subject.id) lines.push(["made for", subject.task]);
  if (subject.family !== null) lines.push(["family", inWords(subject.family)]);
  return lines;
}

function factList(subject) {
  return el("dl", { class: "fact-list" }, factLines(subject).map(([name, value]) =>
    el("div", {}, el("dt", {}, name), el("dd", {}, nameOf(value)))));
}

function tooltipFor(index) {
  const subject = subjects[index];
  const near = [OTHER[subject.kind], subject.kind].map((kind) => [kind, nearestOf(index, kind, kind === "model" ? 3 : 1)]);
  return [
    el("strong", {}, mark(index, subject.kind), nameOf(subject.id)),
    factList(subject),
    ...near.filter(([, found]) => found.length).map(([kind, found]) =>
      el("div", { class: "near" }, el("span", { class: "near-title" }, `nearest ${kind}${found.length > 1 ? "s" : ""}`),
        found.map((one) => el("span", { class: "near-line" }, nameOf(one.id), el("span", { class: "number" }, scoreText(one.score)))))),
  ];
}

function nearestList(index, kind, limit) {
  const found = nearestOf(index, kind, limit);
  if (!found.length) return null;
  return el("div", { class: "near" },
    el("h4", {}, `Nearest ${kind}s`),
    el("ol", { class: "near-list" }, found.map((one) => el("li", {}, subjectLink(one), scoreBar(one)))));
}

function colorLegend() {
  const { names, sizes, slot } = categories[state.colorBy];
  const own = names.filter((name) => slot.get(name) < COLORS);
  const rest = names.filter((name) => slot.get(name) === COLORS);
  const item = (label, members, color) => {
    const pressed = state.category !== null && state.category.join("\n") === members.join("\n");
    const button = el("button", { type: "button", "aria-pressed": String(pressed) },
      el("i", { class: "swatch", "data-color": color, "aria-hidden": "true" }), nameOf(label),
      el("span", { class: "number" }, members.reduce((sum, name) => sum + sizes.get(name), 0)));
    button.addEventListener("click", () => change({ category: pressed ? null : members }));
    return el("li", {}, button);
  };
  return el("ul", { class: "legend" },
    own.map((name) => item(inWords(name), [name], slot.get(name))),
    rest.length ? item(rest.length === 1 ? inWords(rest[0]) : `${rest.length} others`, rest, COLORS) : null);
}

/* What the map cannot show well: the models that no dataset explains. */
function farModels() {
  const rows = subjects.flatMap((subject, index) => {
    const [near] = subject.kind === "model" ? nearestOf(index, "dataset", 1) : [];
    return near ? [{ index, near }] : [];
  });
  if (rows.length < 4) return [];
  rows.sort((a, b) => a.near.score - b.near.score);
  return [el("div", { class: "near" }, el("h4", {}, "Models furthest from any dataset"),
    el("ol", { class: "near-list" }, rows.slice(0, 5).map(({ index, near }) =>
      el("li", {}, linkTo(index), scoreBar(near)))))];
}

function renderPanel(panel) {
  const index = state.pinned;
  if (index === null) {
    panel.replaceChildren(
      el("p", { class: "hint" }, "Point at a sign or its name for the facts; click, tap or press Enter to keep them here. " +
        "Wheel or pinch zooms, dragging moves, the arrow keys go from one to the next. A kind below the map stands out when it is clicked."),
      ...farModels());
    return;
  }
  const subject = subjects[index];
  const close = el("button", { type: "button", class: "close", "aria-label": "Unpin" }, "×");
  close.addEventListener("click", () => pin(null));
  panel.replaceChildren(...[
    el("div", { class: "panel-head" }, el("h3", {}, linkTo(index)), close),
    factList(subject),
    el("p", { class: "go" }, el("a", { href: addressOf(subject.kind, subject.id) }, "All about it")),
    nearestList(index, OTHER[subject.kind], 5),
    nearestList(index, subject.kind, 5),
  ].filter(Boolean));
}
