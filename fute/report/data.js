/* The data of the page, the space that is open, and the one state that all parts of its view share. */

const data = JSON.parse(document.getElementById("data").textContent);
const keyOf = (kind, id) => `${kind}\n${id}`;
const rowByKey = new Map(data.subjects.map((subject, row) => [keyOf(subject.kind, subject.id), row]));
const spacesOf = (row) => data.spaces.filter((one) => one.members.includes(row));

/* Of the open space. A subject has an index in it, and a row of the page's list of all subjects. */
let space, subjects, count, categories;
let indexByRow, packed;

const unpacked = new Map(); // by space: similarities, once they were needed

function openSpace(chosen) {
  space = chosen;
  subjects = space.members.map((row) => data.subjects[row]);
  count = subjects.length;
  indexByRow = new Map(space.members.map((row, index) => [row, index]));
  if (!unpacked.has(space)) {
    unpacked.set(space, new Int16Array(Uint8Array.from(atob(space.similarities), (c) => c.charCodeAt(0)).buffer));
  }
  packed = unpacked.get(space);
  categories = { type: categoriesBy("type"), family: categoriesBy("family") };
  Object.assign(state, { hovered: null, pinned: null, pair: null, category: null, group: null, query: "", map: 0 });
  if (!categories.family.names.length) state.colorBy = "type";
}

/* The lower triangle lies row by row. */
const similarity = (a, b) => packed[a >= b ? (a * (a + 1)) / 2 + b : (b * (b + 1)) / 2 + a] / 32767;

/*
 * Neighbors of a row of one kind in a space, nearest first, and behind them models that are right most often but beyond
 * the nearest, whose score is null. `row` and `index` are null for one that is not there.
 */
function nearestIn(one, row, kind) {
  const found = one.nearest[one.members.indexOf(row)].map(([whose, score, low, high, verdict, accuracy]) => {
    const known = typeof whose === "number";
    const { id, kind: nearKind } = known ? data.subjects[whose] : { id: whose[0], kind: whose[1] };
    return { id, kind: nearKind, score, low, high, verdict, accuracy, row: known ? whose : null };
  });
  return found.filter((near) => near.kind === kind).map((near) => ({ ...near, index: indexByRow.get(near.row) ?? null }));
}
const nearestOf = (index, kind, limit) =>
  nearestIn(space, space.members[index], kind).filter((near) => near.score !== null).slice(0, limit);

/* Models for a dataset: those that will be right most often, and behind them those of which that is unknown, by nearness. */
const mostRight = (found) =>
  found.toSorted((a, b) => (b.accuracy?.expected ?? -1) - (a.accuracy?.expected ?? -1));
function bestOf(index) {
  const { kind } = subjects[index];
  return mostRight(nearestIn(space, space.members[index], OTHER[kind])).slice(0, RANKED[kind]);
}

/* Categories that colour the models: the six largest of a field have colours of their own, the rest share grey. */
const COLORS = 6;
function categoriesBy(field) {
  const sizes = new Map();
  for (const subject of subjects) {
    const counted = field === "family" ? subject.family !== null : subject.kind === "model";
    if (counted) sizes.set(subject[field], (sizes.get(subject[field]) ?? 0) + 1);
  }
  const names = [...sizes.keys()].sort((a, b) => sizes.get(b) - sizes.get(a) || (a < b ? -1 : 1));
  return { names, sizes, slot: new Map(names.map((name, rank) => [name, Math.min(rank, COLORS)])) };
}

/* Number of the colour of a subject: 0 to 5, 6 for the rest, null for ink. */
function colorSlot(index) {
  const subject = subjects[index];
  if (state.colorBy === "type") return subject.kind === "model" ? categories.type.slot.get(subject.type) : null;
  return subject.family === null ? (subject.kind === "model" ? COLORS : null) : categories.family.slot.get(subject.family);
}

const state = {
  hovered: null,    // subject under the pointer or the keyboard
  pinned: null,     // subject chosen
  pair: null,       // [index, index] chosen in the heat map
  group: null,      // node of the tree chosen
  category: null,   // category whose members stand out
  query: "",        // search on the map
  colorBy: "type",
  map: 0,           // which of the space's maps
};
let listeners = [];
let life = new AbortController(); // ends when another space is opened, and with it what listens beyond its own elements

function onChange(listener) {
  listeners.push(listener);
}

/* Change the state and tell every part which fields changed. */
function change(update) {
  const changed = new Set(Object.keys(update).filter((field) => state[field] !== update[field]));
  if (!changed.size) return;
  Object.assign(state, update);
  for (const listener of listeners) listener(changed);
}

/* Draw again whenever an element has another size, until another space is opened. */
function onResize(element, redraw) {
  const observer = new ResizeObserver(redraw);
  observer.observe(element);
  life.signal.addEventListener("abort", () => observer.disconnect());
}

const pin = (index) => change({ pinned: index });
const inWords = (text) => text.replaceAll("_", " ");
const decimals = (number, digits = 2) => number.toFixed(digits).replace(/^-/, "−").replace(/^−(0\.?0*)$/, "$1");
const percent = (share) => `${Math.round(100 * share)} %`;
const thousands = (number) => number.toLocaleString("en");
const dollars = (usd) => (usd === 0 ? "$0" : usd < 0.01 ? `$${usd.toPrecision(2)}` : `$${usd.toFixed(2)}`);
const matches = (texts, query) => {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const all = texts.filter((text) => text !== null).join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
};
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
