/* Putting the page together: the head, the sections and what they say in words, and which view the address asks for. */

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
  const made = new Set(subjects.filter((one) => one.kind === "model").map((one) => one.task));
  const datasets = rowsOf("dataset").filter(({ subject, found }) => found.length && made.has(subject.id))
    .map(({ subject, found }) => found[0].index !== null && subjects[found[0].index].task === subject.id);
  if (datasets.length) {
    sentences.push(`For ${datasets.filter(Boolean).length} of ${plural(datasets.length, "dataset")} the model that comes first is one made for it.`);
  }
  return sentences.length ? sentences.join(" ") : "For each dataset the models that fit it, and for each model its dataset.";
}

function buildHead() {
  byId("title").replaceChildren(nameOf(data.title));
  const total = (kind) => data.subjects.filter((subject) => subject.kind === kind).length;
  byId("counts").append(...["dataset", "model"].map((kind) => countLine(plural(total(kind), kind).split(" ")[1], total(kind))));
  const drifted = data.subjects.filter((subject) => subject.drift.at(-1)?.drifted).length;
  if (drifted) byId("counts").append(countLine("drifted", drifted, "#drift"));
  if (data.failures.length) byId("counts").append(countLine("failed", data.failures.length, "#failed"));
  if (data.spaces.length < 2) return;
  const choice = el("select", { id: "space" }, data.spaces.map((one, at) => el("option", { value: at }, one.name)));
  choice.addEventListener("change", () => {
    const parts = new URLSearchParams(location.hash.slice(1));
    const kept = ["dataset", "model"].filter((kind) => parts.get(kind)).map((kind) => [kind, parts.get(kind)]);
    location.hash = new URLSearchParams([...kept, ["space", data.spaces[choice.value].id]]);
  });
  byId("space-choice").append(el("label", { for: "space" }, "Compared by"), choice);
}

function buildFoot() {
  if (data.failures.length) {
    byId("failed").hidden = false;
    buildFailureTable(byId("failure-table"));
  }
  const kept = data.store === null ? [] : [["the store", data.store], ...data.spaces.map((one) => [`the space ${one.name}, in SQL`, one.id])];
  const facts = [...kept, ...data.commands.map(({ purpose, command }) => [purpose, command])];
  byId("next").hidden = !facts.length;
  byId("facts").append(...facts.flatMap(([name, value]) => [el("dt", {}, nameOf(name)), el("dd", {}, el("code", {}, value))]));
}

/* What signs and figures mean, by examples of this very page. */
function buildReading() {
  const shown = subjects.flatMap((_, index) => bestOf(index));
  const judged = shown.find(({ accuracy }) => accuracy?.expected != null);
  const scored = shown.find(({ verdict, score }) => verdict !== null && score !== null) ?? shown.find(({ score }) => score !== null);
  const of100 = (share) => Math.round(100 * share);
  const signs = [
    [[mark(null, "dataset"), " dataset"], "Texts with labels: a task that models may do."],
    [[mark(null, "model"), " model"], "Anything that answers texts: a trained classifier, rules, a prompt on an LLM. Its colour says which kind."],
    ["pool", "Unlabelled texts that every model answered, once. All that is said here follows from these answers and the datasets’ labels."],
  ];
  if (judged) {
    const { expected, low, high } = judged.accuracy;
    signs.push([rightIn(judged), `Of 100 texts like the dataset’s the model will answer about ${of100(expected)} rightly, and in 9 of 10 cases between ${of100(low)} and ${of100(high)}. ` +
      "A class is the label that it is called like, or else the one that it goes with."]);
  }
  if (scored) {
    signs.push([scoreBar(scored), (scored.verdict === null ? "How alike two are." : "How much more alike two are than tasks that have nothing to do with each other; 0 is chance. " +
      "What “fits” is more than luck, what “may fit” could be luck, “nothing” is no more than chance.") + (scored.low === null ? "" : ` The thin line is the ${data.interval}.`)]);
  }
  byId("signs").replaceChildren(...signs.flatMap(([sign, meaning]) => [el("dt", {}, sign), el("dd", {}, meaning)]));
  byId("legend").textContent = scored ? `In full: ${space.legend}` : "";
}

/* Everything that belongs to one space, anew. */
const PARTS = ["dataset-table", "model-table", "map-view", "heatmap-view", "all-table", "subtitle", "note-list", "map-panel", "heatmap-panel"];
function buildSpace(chosen) {
  life.abort();
  life = new AbortController();
  listeners = [];
  openSpace(chosen);
  scaleBars();
  for (const part of PARTS) byId(part).replaceChildren();
  byId("subtitle").append(nameOf(space.about), " ", el("span", { class: "when" }, data.createdAt));
  const notes = [...space.notes, ...data.notes];
  byId("notes").hidden = !notes.length;
  byId("note-list").append(...notes.map((note) => el("li", {}, nameOf(note))));
  for (const section of ["map", "heatmap", "reading", "everything"]) byId(section).hidden = !count;
  byId("headline").textContent = count ? headline() : "This space is empty: no dataset or model was embedded.";
  if (data.spaces.length > 1) byId("space").value = data.spaces.indexOf(space);
  if (!count) return;
  buildReading();
  buildDatasetTable(byId("dataset-table"));
  buildModelTable(byId("model-table"));
  buildMap(byId("map-view"));
  buildHeatmap(byId("heatmap-view"));
  buildDrift(byId("drift-view"));
  buildAllTable(byId("all-table"));
}

/*
 * The address: #model=ID or #dataset=ID is a subject's page, with &space=ID for one of several spaces; #map and the
 * like are parts of the overview.
 */
let left = 0; // where the overview was scrolled to
function follow() {
  const hash = location.hash.slice(1);
  const parts = new URLSearchParams(hash);
  const kind = ["dataset", "model"].find((one) => parts.get(one));
  const row = kind ? rowByKey.get(keyOf(kind, parts.get(kind))) ?? null : null;
  const asked = data.spaces.find((one) => one.id === parts.get("space"));
  const holds = (one) => row === null || one.members.includes(row);
  const chosen = [asked, space, ...data.spaces].find((one) => one && holds(one)) ?? space;
  if (chosen !== space) buildSpace(chosen);
  const overview = byId("overview");
  byId("missing").hidden = !kind || row !== null;
  byId("missing").replaceChildren(...(kind && row === null ? [`There is no ${kind} `, nameOf(parts.get(kind)), " on this page."] : []));
  if (row !== null) {
    if (!overview.hidden) left = window.scrollY;
    overview.hidden = true;
    byId("subject").hidden = false;
    showSubject(byId("subject"), row);
    document.title = `${data.subjects[row].id} · ${data.title}`;
    byId("subject-name").focus({ preventScroll: true });
    window.scrollTo(0, 0);
    return;
  }
  document.title = data.title;
  if (!overview.hidden) return;
  byId("subject").hidden = true;
  overview.hidden = false;
  const target = hash && !hash.includes("=") ? document.getElementById(hash) : null;
  if (target) target.scrollIntoView();
  else window.scrollTo(0, left);
}

buildHead();
byId("reading").open = window.innerWidth > 640; // a phone has room for it or for the answer
if (data.spaces.length) {
  buildSpace(data.spaces[0]);
  window.addEventListener("hashchange", follow);
  follow();
} else {
  byId("headline").textContent = "There is no space here yet: no dataset or model was embedded.";
  for (const section of ["map", "heatmap", "reading", "drift", "everything"]) byId(section).hidden = true;
}
buildFoot();
document.documentElement.dataset.ready = "true";
