/* Tables that sort, filter, and fold to their first rows. */

/*
 * columns: [{title, name, sortBy: row => number or string, largestFirst}]
 * rows: [{index, texts (what the filter looks at), group (what the select looks at), cells, ...}]
 * folded: rows shown before "Show all"
 */
function buildTable({ root, title, columns, rows, folded, groupLabel = null, startWith = 0 }) {
  const view = { query: "", group: "", sort: startWith, reverse: false, open: false };
  const filter = el("input", { type: "search", placeholder: "Filter", "aria-label": `Filter: ${title}`, autocomplete: "off" });
  const groups = [...new Set(rows.map((row) => row.group))].sort();
  const choose = groupLabel && groups.length > 1
    ? el("select", { "aria-label": groupLabel }, el("option", { value: "" }, groupLabel), groups.map((name) => el("option", { value: name }, inWords(name))))
    : null;
  const heads = columns.map((column, at) => {
    const button = el("button", { type: "button" }, column.title, el("span", { class: "arrow", "aria-hidden": "true" }));
    button.addEventListener("click", () => {
      view.reverse = view.sort === at && !view.reverse;
      view.sort = at;
      show();
    });
    return el("th", { role: "columnheader", scope: "col", class: column.name }, button);
  });
  /* Made when it is first shown: of hundreds of rows few ever are. `cells` is a function for that. */
  const nodeOf = (row) => {
    row.node ??= el("tr", { role: "row", "data-index": row.index },
      row.cells().map((cell, at) => el("td", { role: "cell", class: columns[at].name, "data-title": columns[at].title }, cell)));
    row.node.classList.toggle("pinned", row.index !== null && row.index === state.pinned);
    return row.node;
  };
  const body = el("tbody", { role: "rowgroup" });
  const more = el("button", { type: "button", class: "more" });
  const told = el("span", { class: "found", "aria-live": "polite" });
  const none = el("p", { class: "hint", hidden: true }, rows.length ? "Nothing matches." : "None yet.");
  root.append(
    el("div", { class: "table-head" }, el("h3", {}, title), el("div", { class: "table-tools" }, told, choose, filter)),
    el("table", { role: "table", "aria-label": title },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, heads)), body),
    none, more);

  function show() {
    const { sortBy, largestFirst } = columns[view.sort];
    const direction = (largestFirst ? -1 : 1) * (view.reverse ? -1 : 1);
    const compare = (a, b) => {
      const [x, y] = [sortBy(a), sortBy(b)];
      if (x === null || y === null) return (x === null) - (y === null); // what has no value comes last either way
      return direction * (typeof x === "string" ? x.localeCompare(y, "en", { numeric: true }) : x - y);
    };
    const kept = rows.filter((row) => matches(row.texts, view.query) && (!view.group || row.group === view.group));
    kept.sort((a, b) => compare(a, b) || (a.texts[0] < b.texts[0] ? -1 : 1));
    body.replaceChildren(...(view.open ? kept : kept.slice(0, folded)).map(nodeOf));
    told.textContent = view.query || view.group ? `${kept.length} of ${rows.length}` : "";
    heads.forEach((head, at) => {
      const sorted = at === view.sort;
      head.setAttribute("aria-sort", sorted ? (direction > 0 ? "ascending" : "descending") : "none");
    });
    none.hidden = kept.length > 0;
    more.hidden = kept.length <= folded;
    more.textContent = view.open ? "Show fewer" : `Show all ${kept.length}`;
    more.setAttribute("aria-expanded", String(view.open));
  }
  const update = (fields) => { Object.assign(view, fields); show(); };
  filter.addEventListener("input", () => update({ query: filter.value }));
  choose?.addEventListener("change", () => update({ group: choose.value }));
  more.addEventListener("click", () => update({ open: !view.open }));
  onChange((changed) => {
    if (changed.has("pinned")) rows.forEach((row) => row.node?.classList.toggle("pinned", row.index !== null && row.index === state.pinned));
  });
  let before = false;
  // On paper nothing can be unfolded.
  window.addEventListener("beforeprint", () => { before = view.open; update({ open: true }); }, { signal: life.signal });
  window.addEventListener("afterprint", () => update({ open: before }), { signal: life.signal });
  show();
}

const subjectCell = (index) => {
  const subject = subjects[index];
  const about = [inWords(subject.type), heldOut(subject)].filter((part) => part !== null);
  return [linkTo(index), el("div", { class: "about" }, about.map((part) => el("span", {}, nameOf(part))))];
};
const nearCell = (found) => (found.length
  ? [nothingFits(found), el("ol", { class: "near-list" }, found.map((near) => el("li", {}, subjectLink(near), rightIn(near), scoreBar(near))))].filter(Boolean)
  : el("span", { class: "hint" }, "nothing to compare with"));
function nothingFits(found) {
  const [{ accuracy, verdict }] = found;
  if (accuracy?.expected != null) {
    return found.some((near) => near.accuracy?.better) ? null
      : el("div", { class: "verdict none" }, "none is surely better than always ", nameOf(accuracy.always), ` (${decimals(accuracy.majority)}):`);
  }
  return verdict === "nothing" ? el("div", { class: "verdict none" }, "nothing here fits; nearest:") : null;
}
/* Datasets of which nothing is known come behind those of which it is, by nearness. */
const bestAccuracy = (row) => row.found[0]?.accuracy?.expected ?? (row.found.length ? (row.found[0].score - barHigh) / 1e6 : null);
const bestScore = (row) => (row.found.length ? row.found[0].score : null);

function rowsOf(kind) {
  return subjects.flatMap((subject, index) => {
    if (subject.kind !== kind) return [];
    const found = bestOf(index);
    return [{ index, subject, found, group: subject.type, texts: [subject.id, subject.type, subject.family, subject.task, ...found.map((near) => near.id)] }];
  });
}

function buildDatasetTable(root) {
  const rows = rowsOf("dataset");
  for (const row of rows) row.cells = () => [subjectCell(row.index), nearCell(row.found)];
  buildTable({
    root, rows, folded: 6, title: "For each dataset", groupLabel: "All tasks", startWith: 1,
    columns: [
      { title: "Dataset", name: "who", sortBy: (row) => row.subject.id },
      { title: "Models, best first", name: "near-cell", sortBy: bestAccuracy, largestFirst: true },
    ],
  });
}

/* Whether the nearest dataset is the one that the model was made for: true, false, or null where that is not known. */
function atHome({ subject, found }) {
  if (!found.length || subject.task === null || !indexByRow.has(rowByKey.get(keyOf("dataset", subject.task)))) return null;
  return found[0].id === subject.task;
}

function buildModelTable(root) {
  const rows = rowsOf("model");
  for (const row of rows) {
    const home = atHome(row);
    const verdict = home === null ? null : home
      ? el("div", { class: "verdict same" }, "✓ the task it was made for")
      : el("div", { class: "verdict other" }, "made for ", nameOf(row.subject.task));
    row.cells = () => [subjectCell(row.index), [nearCell(row.found), verdict].flat()];
  }
  buildTable({
    root, rows, folded: 10, title: "For each model", groupLabel: "All kinds", startWith: 1,
    columns: [
      { title: "Model", name: "who", sortBy: (row) => row.subject.id },
      { title: "Nearest dataset", name: "near-cell", sortBy: bestScore, largestFirst: true },
    ],
  });
}

/* All subjects of the page, those of other spaces included. */
function buildAllTable(root) {
  const rows = data.subjects.map((subject, row) => {
    const index = indexByRow.get(row) ?? null;
    const [near] = index === null ? [] : nearestOf(index, OTHER[subject.kind], 1);
    const link = () => subjectLink({ row, index, kind: subject.kind, id: subject.id });
    const dash = () => el("span", { class: "hint" }, "–");
    return {
      index, subject, near, group: subject.kind,
      texts: [subject.id, subject.kind, subject.type, subject.family, subject.task, subject.prompt?.template ?? null, ...subject.facts.flat()],
      cells: () => [
        link(),
        nameOf(inWords(subject.type)),
        subject.family === null ? dash() : nameOf(inWords(subject.family)),
        subject.score === null ? dash() : el("span", { class: "number", title: heldOut(subject) }, decimals(subject.score)),
        near ? [subjectLink(near), " ", el("span", { class: "number muted" }, near.verdict === "nothing" ? "nothing fits" : scoreText(near.score))] : dash(),
        subject.cost?.usd != null ? el("span", { class: "number" }, dollars(subject.cost.usd)) : dash(),
        el("span", { class: "number" }, versions(subject) || dash()),
      ],
    };
  });
  buildTable({
    root, rows, folded: 12, title: plural(rows.length, "subject"), groupLabel: "All kinds",
    columns: [
      { title: "Subject", name: "who", sortBy: (row) => row.subject.id },
      { title: "Type", name: "what", sortBy: (row) => row.subject.type },
      { title: "Family", name: "kin", sortBy: (row) => row.subject.family },
      { title: "Held out", name: "figure", sortBy: (row) => row.subject.score, largestFirst: true },
      { title: "Nearest", name: "nearest", sortBy: (row) => row.near?.score ?? null, largestFirst: true },
      { title: "Cost", name: "figure", sortBy: (row) => row.subject.cost?.usd ?? null, largestFirst: true },
      { title: "Versions", name: "figure", sortBy: (row) => versions(row.subject), largestFirst: true },
    ],
  });
}

/* In the space that has most of them: a subject has one in each. */
function versions(subject) {
  const counts = new Map();
  for (const { space } of subject.history) counts.set(space, (counts.get(space) ?? 0) + 1);
  return Math.max(0, ...counts.values());
}

function buildFailureTable(root) {
  const rows = data.failures.map(({ id, reason }) => ({ index: null, group: "", texts: [id, reason], cells: () => [nameOf(id), nameOf(reason)] }));
  buildTable({
    root, rows, folded: 10, title: `${plural(rows.length, "model")} could not be embedded`,
    columns: [
      { title: "Model", name: "who", sortBy: (row) => row.texts[0] },
      { title: "Reason", name: "reason", sortBy: (row) => row.texts[1] },
    ],
  });
}
