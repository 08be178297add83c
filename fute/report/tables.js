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
  for (const row of rows) {
    row.node = el("tr", { role: "row", "data-index": row.index }, row.cells.map((cell, at) => el("td", { role: "cell", class: columns[at].name }, cell)));
  }
  const body = el("tbody", { role: "rowgroup" });
  const more = el("button", { type: "button", class: "more" });
  const none = el("p", { class: "hint", hidden: true }, "Nothing matches.");
  root.append(
    el("div", { class: "table-head" }, el("h3", {}, title), el("div", { class: "table-tools" }, choose, filter)),
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
    kept.forEach((row, at) => row.node.classList.toggle("folded", !view.open && at >= folded));
    body.replaceChildren(...kept.map((row) => row.node));
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
    if (changed.has("pinned")) rows.forEach((row) => row.node.classList.toggle("pinned", row.index !== null && row.index === state.pinned));
  });
  show();
}

const subjectCell = (index) => {
  const subject = subjects[index];
  const about = [inWords(subject.type), heldOut(subject)].filter((part) => part !== null);
  return [subjectButton(index, subject.kind, subject.id), el("div", { class: "about" }, about.map((part) => el("span", {}, nameOf(part))))];
};
const nearCell = (found) => (found.length
  ? el("ol", { class: "near-list" }, found.map((near) => el("li", {}, subjectButton(near.index, near.kind, near.id), scoreBar(near))))
  : el("span", { class: "hint" }, "nothing to compare with"));
const bestScore = (row) => (row.found.length ? row.found[0].score : null);

function rowsOf(kind) {
  return subjects.flatMap((subject, index) => {
    if (subject.kind !== kind) return [];
    const found = nearestOf(index, OTHER[kind], RANKED[kind]);
    return [{ index, subject, found, group: subject.type, texts: [subject.id, subject.type, subject.family, subject.task, ...found.map((near) => near.id)] }];
  });
}

function buildDatasetTable(root) {
  const rows = rowsOf("dataset");
  for (const row of rows) row.cells = [subjectCell(row.index), nearCell(row.found)];
  buildTable({
    root, rows, folded: 6, title: "For each dataset", groupLabel: "All tasks", startWith: 1,
    columns: [
      { title: "Dataset", name: "who", sortBy: (row) => row.subject.id },
      { title: "Nearest models", name: "near-cell", sortBy: bestScore, largestFirst: true },
    ],
  });
}

/* Whether the nearest dataset is the one that the model was made for: true, false, or null where that is not known. */
function atHome({ subject, found }) {
  if (!found.length || subject.task === null || !indexByKey.has(keyOf("dataset", subject.task))) return null;
  return found[0].id === subject.task;
}

function buildModelTable(root) {
  const rows = rowsOf("model");
  for (const row of rows) {
    const home = atHome(row);
    const verdict = home === null ? null : home
      ? el("div", { class: "verdict same" }, "✓ the task it was made for")
      : el("div", { class: "verdict other" }, "made for ", nameOf(row.subject.task));
    row.cells = [subjectCell(row.index), [nearCell(row.found), verdict]];
  }
  buildTable({
    root, rows, folded: 10, title: "For each model", groupLabel: "All kinds", startWith: 1,
    columns: [
      { title: "Model", name: "who", sortBy: (row) => row.subject.id },
      { title: "Nearest dataset", name: "near-cell", sortBy: bestScore, largestFirst: true },
    ],
  });
}

function buildFailureTable(root) {
  const rows = data.failures.map(({ id, reason }) => ({ index: null, group: "", texts: [id, reason], cells: [nameOf(id), nameOf(reason)] }));
  buildTable({
    root, rows, folded: 10, title: `${plural(rows.length, "model")} could not be embedded`,
    columns: [
      { title: "Model", name: "who", sortBy: (row) => row.texts[0] },
      { title: "Reason", name: "reason", sortBy: (row) => row.texts[1] },
    ],
  });
}
