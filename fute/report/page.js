/* Putting the page together: the head, the sections, and what they say in words. */

function countLine(label, value, link = null) {
  const number = link ? el("a", { href: link }, String(value)) : String(value);
  return el("div", { class: link ? "alert" : null }, el("dt", {}, label), el("dd", { class: "number" }, number));
}

function headline() {
  const sentences = [];
  const models = rowsOf("model").map(atHome).filter((home) => home !== null);
  if (models.length) {
    const right = models.filter(Boolean).length;
    sentences.push(`${right} of ${plural(models.length, "model")} with a known task ${right === 1 ? "lies" : "lie"} nearest to that task’s own dataset.`);
  }
  const datasets = rowsOf("dataset")
    .filter(({ subject, found }) => found.length && subjects.some((one) => one.kind === "model" && one.task === subject.id))
    .map(({ subject, found }) => found[0].index !== null && subjects[found[0].index].task === subject.id);
  if (datasets.length) {
    sentences.push(`For ${datasets.filter(Boolean).length} of ${plural(datasets.length, "dataset")} the nearest model is one made for it.`);
  }
  return sentences.length ? sentences.join(" ") : "For each dataset the models that do most nearly the same, and for each model its dataset.";
}

function buildHead() {
  const total = (kind) => subjects.filter((subject) => subject.kind === kind).length;
  byId("title").replaceChildren(nameOf(data.title));
  byId("subtitle").append(nameOf(data.subtitle), " ", el("span", { class: "when" }, data.createdAt));
  byId("counts").append(countLine("datasets", total("dataset")), countLine("models", total("model")));
  if (data.failures.length) byId("counts").append(countLine("failed", data.failures.length, "#failed"));
  byId("headline").textContent = headline();
  const anyInterval = subjects.some((subject) => subject.nearest.some((near) => near[3] !== null));
  byId("bar-key").textContent = "Bars show the similarity: 1 is the same task, 0 none in common." +
    (anyInterval ? ` The line across a bar is its ${data.interval}.` : "");
}

function buildFoot() {
  if (data.failures.length) {
    byId("failed").hidden = false;
    buildFailureTable(byId("failure-table"));
  }
  byId("notes").hidden = !data.notes.length;
  byId("note-list").append(...data.notes.map((note) => el("li", {}, nameOf(note))));
  const facts = [...(data.store === null ? [] : [["The store", data.store]]), ...data.commands.map(({ purpose, command }) => [purpose, command])];
  byId("next").hidden = !facts.length;
  byId("facts").append(...facts.flatMap(([name, value]) => [el("dt", {}, nameOf(name)), el("dd", {}, el("code", {}, value))]));
}

buildHead();
if (count) {
  buildDatasetTable(byId("dataset-table"));
  buildModelTable(byId("model-table"));
  buildMap(byId("map-view"));
  buildHeatmap(byId("heatmap-view"));
} else {
  byId("headline").textContent = "This space is empty: no dataset or model was embedded.";
  for (const section of ["map", "heatmap"]) byId(section).hidden = true;
  byId("bar-key").hidden = true;
}
buildFoot();
document.documentElement.dataset.ready = "true";
