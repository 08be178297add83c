/* The data of the page, and the one state that all its parts share. */

const data = JSON.parse(document.getElementById("data").textContent);
const subjects = data.subjects;
const count = subjects.length;

const keyOf = (kind, id) => `${kind}\n${id}`;
const indexByKey = new Map(subjects.map((subject, index) => [keyOf(subject.kind, subject.id), index]));

const packed = new Int16Array(Uint8Array.from(atob(data.similarities), (c) => c.charCodeAt(0)).buffer);
const similarity = (row, column) => packed[row * count + column] / 32767;

/* Neighbors of subject `index` of one kind, nearest first. `index` is null for one that is not on the map. */
function nearestOf(index, kind, limit) {
  return subjects[index].nearest
    .filter((near) => near[1] === kind)
    .slice(0, limit)
    .map(([id, nearKind, score, low, high]) => ({
      id, kind: nearKind, score, low, high,
      index: indexByKey.get(keyOf(nearKind, id)) ?? null,
    }));
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
const categories = { type: categoriesBy("type"), family: categoriesBy("family") };

/* Number of the colour of a subject: 0 to 5, 6 for the rest, null for ink. */
function colorSlot(index) {
  const subject = subjects[index];
  if (state.colorBy === "type") return subject.kind === "model" ? categories.type.slot.get(subject.type) : null;
  return subject.family === null ? (subject.kind === "model" ? COLORS : null) : categories.family.slot.get(subject.family);
}

const state = {
  hovered: null,    // subject under the pointer or the keyboard
  pinned: null,     // subject chosen
  pair: null,       // [row, column] chosen in the heat map
  category: null,   // category whose members stand out
  query: "",        // search on the map
  colorBy: "type",
};
const listeners = [];

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

const pin = (index) => change({ pinned: index });
const inWords = (text) => text.replaceAll("_", " ");
const decimals = (number, digits = 2) => number.toFixed(digits).replace(/^-/, "−").replace(/^−(0\.?0*)$/, "$1");
const matches = (texts, query) => {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const all = texts.filter((text) => text !== null).join("\n").toLowerCase();
  return words.every((word) => all.includes(word));
};
const plural = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
