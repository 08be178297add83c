/* Drift: on how many of the user's texts each watched model says something else than at first. */

const DRIFT_SHOWN = 9; // charts, until one asks for all

const inPercent = (share) => `${decimals(100 * share, 1)} %`;

/* The checks against one baseline make one line. */
function byBaseline(checks) {
  const lines = new Map();
  for (const check of checks) lines.set(check.baseline, [...(lines.get(check.baseline) ?? []), check]);
  return [...lines.values()];
}

function driftChart(subject, wide = false) {
  const lines = byBaseline(subject.drift).map((line) => line.map((check) => ({
    made: check.made, value: 100 * check.share, alarm: check.drifted,
    title: `${check.made}: changed on ${inPercent(check.share)} of the texts (${inPercent(check.low)} to ${inPercent(check.high)})`,
  })));
  const alarms = subject.drift.filter((check) => check.drifted).length;
  const highest = Math.max(1, ...lines.flat().map(({ value }) => value));
  return lineChart({
    label: `Drift of ${subject.id}: ${plural(subject.drift.length, "check")}, ${plural(alarms, "alarm")}`,
    series: [{ name: "changed", style: "s0", lines }], wide, low: 0, high: 1.06 * highest, ticks: [0, Math.ceil(highest / 2), Math.ceil(highest)],
  });
}

const driftKey = () => el("p", { class: "chart-key key" }, el("span", { class: "chart-name s0" }, "% of texts with another label"));

function driftVerdict(subject) {
  const last = subject.drift.at(-1);
  const alarms = subject.drift.filter((check) => check.drifted).length;
  const when = el("span", { class: "when-checked" }, last.made.replace(/:\d\d UTC$/, " UTC"));
  if (last.drifted) return el("p", { class: "verdict other" }, "⚠ drifted: ", nameOf(last.reasons.join("; ")), " · ", when);
  return el("p", { class: "verdict same" }, alarms ? `✓ as at first, after ${plural(alarms, "alarm")} · ` : "✓ as at first · ", when);
}

const driftFigures = (subject) => figures(plural(subject.drift.length, "check"), ["checked", "drifted", "changed", "from", "to", "verdict"],
  [...subject.drift].reverse().map((check) => [check.made, check.drifted ? "yes" : "no", inPercent(check.share), inPercent(check.low), inPercent(check.high), nameOf(check.reasons.join("; "))]));

/* Worst first: what drifted at its last check, then what has changed on most texts. */
function buildDrift(root) {
  const watched = data.subjects.map((subject, row) => ({ subject, row })).filter(({ subject }) => subject.drift.length);
  byId("drift").hidden = !watched.length;
  if (!watched.length) return;
  const last = ({ subject }) => subject.drift.at(-1);
  watched.sort((a, b) => last(b).drifted - last(a).drifted || last(b).share - last(a).share);
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
