/* Lines over time, small: drift of a model, versions of an embedding. */

const CHART = { height: 128, left: 30, right: 8, top: 10, bottom: 20 };

const moment = (text) => Date.parse(text.replace(" UTC", "Z").replace(" ", "T"));
const day = (text) => text.slice(0, 10);

/*
 * series: [{name, style, lines: [[{made, value, alarm, title}]]}], the points of a line in the order of time
 * wide: for a chart that has the page's width, so that its letters do not grow with it
 * limit: value at which a line is drawn across; ticks: values that the axis names
 */
function lineChart({ label, series, limit = null, ticks, low, high, wide = false }) {
  const { height, left, right, top, bottom } = CHART;
  const width = wide && window.innerWidth > 640 ? 620 : 340;
  const times = [...new Set(series.flatMap(({ lines }) => lines.flat().map(({ made }) => made)))].sort();
  const [first, last] = [moment(times[0]), moment(times.at(-1))];
  const room = width - left - right;
  // Evenly where all happened within a minute.
  const x = (made) => left + room * (times.length === 1 ? 0.5 : last > first ? (moment(made) - first) / (last - first) : times.indexOf(made) / (times.length - 1));
  const y = (value) => top + (height - top - bottom) * (1 - (Math.min(high, Math.max(low, value)) - low) / (high - low));
  const nodes = ticks.map((tick) => [
    svgEl("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
    svgEl("text", { class: "tick", x: left - 5, y: y(tick) + 3.5, "text-anchor": "end" }, decimals(tick, Math.abs(tick) >= 1 || tick === 0 ? 0 : 2)),
  ]);
  if (limit !== null) nodes.push(svgEl("line", { class: "limit", x1: left, x2: width - right, y1: y(limit), y2: y(limit) }));
  for (const { style, lines } of series) {
    for (const line of lines) {
      const points = line.map(({ made, value }) => `${x(made).toFixed(1)},${y(value).toFixed(1)}`);
      if (points.length > 1) nodes.push(svgEl("polyline", { class: `line ${style}`, points: points.join(" ") }));
      // Single points are drawn where they can be told apart, and always where they are alarms.
      const apart = room / Math.max(1, line.length) > 7;
      nodes.push(line.filter(({ alarm }) => alarm || apart || line.length === 1).map(({ made, value, alarm, title }) =>
        svgEl("circle", { class: `dot ${style}${alarm ? " alarm" : ""}`, cx: x(made).toFixed(1), cy: y(value).toFixed(1), r: alarm ? 3.6 : 2.4 },
          svgEl("title", {}, title))));
    }
  }
  nodes.push(svgEl("text", { class: "tick", x: left, y: height - 5 }, day(times[0])));
  if (day(times.at(-1)) !== day(times[0])) nodes.push(svgEl("text", { class: "tick", x: width - right, y: height - 5, "text-anchor": "end" }, day(times.at(-1))));
  return svgEl("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...nodes.flat(2));
}

/* A table that folds away: what a chart shows, for those who want the figures or cannot see it. */
function figures(summary, heads, rows) {
  return el("details", { class: "figures" }, el("summary", {}, summary),
    el("div", { class: "scrolls", tabindex: 0, role: "region", "aria-label": summary }, el("table", { class: "plain" },
      el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value) => el("td", {}, value))))))));
}
