/* Drift: how far each watched model has moved from its baseline, as a multiple of what raises the alarm. */

const DRIFT_SHOWN = 9; // charts, until one asks for all

/* A value as a multiple of its threshold; what has none counts as moved by as much as it did. */
const toThreshold = (value, threshold) => (threshold > 0 ? value / threshold : value > 0 ? 2 : 0);

/* The checks against one baseline make one line. */
function byBaseline(checks) {
  const lines = new Map();
  for (const check of checks) lines.set(check.baseline, [...(lines.get(check.baseline) ?? []), check]);
  return [...lines.values()];
}

function driftChart(subject, wide = false) {
  const lines = byBaseline(subject.drift);
  const pointsOf = (name, field) => lines.map((line) => line.map((check) => {
    const value = toThreshold(check[field], check[`${field}_threshold`]);
    return { made: check.made, value, alarm: value > 1, title: `${check.made}: ${name} ${decimals(check[field], 4)}, alarm above ${decimals(check[`${field}_threshold`], 4)}` };
  }));
  const series = [
    { name: "embedding", style: "s0", lines: pointsOf("distance of the embeddings", "distance") },
    { name: "answers", style: "s1", lines: pointsOf("change of the answers", "change") },
  ];
  const highest = Math.max(1.5, ...series.flatMap(({ lines: all }) => all.flat().map(({ value }) => value)));
  const alarms = subject.drift.filter((check) => check.drifted).length;
  return lineChart({
    label: `Drift of ${subject.id}: ${plural(subject.drift.length, "check")}, ${plural(alarms, "alarm")}`,
    series, wide, limit: 1, low: 0, high: Math.min(highest * 1.06, 6), ticks: highest > 4 ? [0, 1, 3, 5] : highest > 1.9 ? [0, 1, 2] : [0, 1],
  });
}

const driftKey = () => el("p", { class: "chart-key key" },
  el("span", { class: "chart-name s0" }, "embedding"), el("span", { class: "chart-name s1" }, "answers"),
  el("span", { class: "chart-name at-limit" }, "alarm: 1 is the threshold"));

function driftVerdict(subject) {
  const last = subject.drift.at(-1);
  const alarms = subject.drift.filter((check) => check.drifted).length;
  const when = el("span", { class: "when-checked" }, last.made.replace(/:\d\d UTC$/, " UTC"));
  if (last.drifted) return el("p", { class: "verdict other" }, "⚠ drifted: ", nameOf(last.reasons.join("; ") || "beyond its threshold"), " · ", when);
  return el("p", { class: "verdict same" }, alarms ? `✓ as at first, after ${plural(alarms, "alarm")} · ` : "✓ as at first · ", when);
}

const driftFigures = (subject) => figures(plural(subject.drift.length, "check"), ["checked", "drifted", "embedding", "alarm above", "answers", "alarm above", "why"],
  [...subject.drift].reverse().map((check) => [check.made, check.drifted ? "yes" : "no", decimals(check.distance, 4), decimals(check.distance_threshold, 4),
    decimals(check.change, 4), decimals(check.change_threshold, 4), nameOf(check.reasons.join("; "))]));

/* Worst first: what drifted at its last check, then what came nearest to it. */
function buildDrift(root) {
  const watched = data.subjects.map((subject, row) => ({ subject, row })).filter(({ subject }) => subject.drift.length);
  byId("drift").hidden = !watched.length;
  if (!watched.length) return;
  const last = ({ subject }) => subject.drift.at(-1);
  const closeness = (one) => Math.max(toThreshold(last(one).distance, last(one).distance_threshold), toThreshold(last(one).change, last(one).change_threshold));
  watched.sort((a, b) => last(b).drifted - last(a).drifted || closeness(b) - closeness(a));
  const drifted = watched.filter((one) => last(one).drifted).length;
  byId("drift-lead").textContent = `${plural(watched.length, "prompted model")} ${watched.length === 1 ? "is" : "are"} watched; ` +
    `${drifted ? `${drifted} no longer ${drifted === 1 ? "answers as it" : "answer as they"} did` : "all answer as they did"} at the last check.`;
  const grid = el("div", { class: "drift-grid" });
  const more = el("button", { type: "button", class: "more" });
  let open = false;
  function show() {
    grid.replaceChildren(...watched.slice(0, open ? watched.length : DRIFT_SHOWN).map(({ subject, row }) => el("article", { class: "card" },
      el("h3", {}, subjectLink({ row, index: indexByRow?.get(row) ?? null, kind: subject.kind, id: subject.id })), driftChart(subject), driftVerdict(subject))));
    more.hidden = watched.length <= DRIFT_SHOWN;
    more.textContent = open ? "Show fewer" : `Show all ${watched.length}`;
    more.setAttribute("aria-expanded", String(open));
  }
  more.addEventListener("click", () => { open = !open; show(); });
  root.replaceChildren(driftKey(), grid, more);
  show();
}
