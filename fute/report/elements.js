/* Making elements. Text from outside becomes text nodes and plain attributes here, never markup. */

const OTHER = { dataset: "model", model: "dataset" };
const RANKED = { dataset: 3, model: 1 }; // nearest of the other kind that the tables show
const SVG = "http://www.w3.org/2000/svg";

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}
const el = (tag, attributes = {}, ...children) => furnish(document.createElement(tag), attributes, children);
const svgEl = (tag, attributes = {}, ...children) => furnish(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

/*
 * A name from outside: isolated, so that right-to-left marks in it cannot turn what stands around it, and with places
 * to break a long one where its parts meet.
 */
const nameOf = (text) =>
  el("bdi", { class: "name" }, text.split(/(?<=[/_.:@])(?=\w)/).flatMap((part, at) => (at ? [el("wbr"), part] : [part])));

/* The sign by which a subject is known on the map: a diamond for a dataset, a coloured disc for a model. */
function mark(index, kind) {
  const slot = index === null ? null : colorSlot(index);
  const sign = svgEl("svg", { class: "mark", viewBox: "-6 -6 12 12", "aria-hidden": "true" });
  sign.append(kind === "dataset" ? svgEl("path", { d: "M0-5.6 5.6 0 0 5.6-5.6 0Z" }) : svgEl("circle", { r: 4.6 }));
  sign.setAttribute("data-color", slot === null ? (kind === "dataset" ? "ink" : COLORS) : slot);
  if (index !== null) sign.dataset.subject = index;
  return sign;
}

/* Where a subject's own page is: after the #, so that it can be linked to and the file stays one. */
function addressOf(kind, id) {
  const parts = { [kind]: id };
  if (data.spaces.length > 1) parts.space = space.id;
  return `#${new URLSearchParams(parts)}`;
}

/* A subject's sign and name, leading to its page if it has one. */
function subjectLink({ row, index, kind, id }) {
  const inside = [mark(index, kind), nameOf(id)];
  return row === null ? el("span", { class: "subject" }, inside) : el("a", { class: "subject", href: addressOf(kind, id) }, inside);
}
const linkTo = (index) => subjectLink({ row: space.members[index], index, ...subjects[index] });

/* One scale for all bars of a space: from 0, or what is below, to its highest score. */
let barLow = 0, barHigh = 1;
function scaleBars() {
  const shown = subjects.flatMap((subject, index) => nearestOf(index, OTHER[subject.kind], RANKED[subject.kind]));
  barLow = Math.min(0, ...shown.map((near) => Math.min(near.score, near.low ?? 0)));
  barHigh = Math.max(1, ...shown.map((near) => Math.max(near.score, near.high ?? 0)));
}
const onBar = (score) => `${(100 * (Math.min(barHigh, Math.max(barLow, score)) - barLow)) / (barHigh - barLow)}%`;
/* Scores above chance have one decimal, cosines two. */
const scoreText = (score) => decimals(score, barHigh > 1 ? 1 : 2);

/* A score as a bar with its interval as a whisker, as a number, and what it means. */
function scoreBar({ score, low, high, verdict }) {
  if (score === null) return el("span", { class: "score hint" }, "not among the nearest");
  const filled = el("span", { class: score < 0 ? "bar-fill below" : "bar-fill" });
  const track = el("span", { class: "bar", "aria-hidden": "true" }, filled);
  filled.style.left = onBar(Math.min(0, score));
  filled.style.right = `calc(100% - ${onBar(Math.max(0, score))})`;
  let range = null;
  if (low !== null && high !== null) {
    const whisker = el("span", { class: "whisker" });
    whisker.style.left = onBar(low);
    whisker.style.right = `calc(100% - ${onBar(high)})`;
    track.append(whisker);
    range = `${data.interval}: ${scoreText(low)} to ${scoreText(high)}`;
  }
  const number = el("span", { class: "number" }, scoreText(score), range && el("span", { class: "unseen" }, ` (${range})`));
  const means = el("span", { class: `means ${(verdict ?? "").replace(" ", "-")}` }, verdict ?? "");
  return el("span", { class: "score", title: range }, track, number, means);
}

/* How often a model will be right, or why that is unknown; nothing where no share of right answers makes sense. */
function rightIn({ accuracy }) {
  if (!accuracy) return null;
  if (accuracy.expected === null) return el("span", { class: "right-in unknown" }, "unknown: ", nameOf(accuracy.unknown));
  return el("span", { class: "right-in" }, "right in ", el("strong", { class: "number" }, decimals(accuracy.expected)),
    ` (${decimals(accuracy.low)} to ${decimals(accuracy.high)})`);
}

const heldOut = (subject) =>
  subject.score === null ? null : `${inWords(subject.scoreName ?? "held-out score")} ${decimals(subject.score)}`;
