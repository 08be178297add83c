/* The page of one subject: what it is, what is near it in every space, its score, prompt, cost, history and drift. */

const definition = (pairs) => el("dl", { class: "facts-list" }, pairs.map(([name, value]) =>
  el("div", {}, el("dt", {}, nameOf(name)), el("dd", {}, typeof value === "string" ? nameOf(value) : value))));

const block = (title, ...content) => {
  const inside = content.flat().filter((one) => one !== null);
  return inside.length ? el("section", { class: "card" }, el("h3", {}, title), ...inside) : null;
};

function knownFacts(subject) {
  const facts = [["kind", `${subject.kind}, ${inWords(subject.type)}`]];
  if (subject.task !== null && subject.task !== subject.id) {
    const row = rowByKey.get(keyOf("dataset", subject.task)) ?? null;
    facts.push(["made for", subjectLink({ row, index: indexByRow.get(row) ?? null, kind: "dataset", id: subject.task })]);
  }
  if (subject.family !== null) facts.push(["family", inWords(subject.family)]);
  return [...facts, ...subject.facts];
}

function scoreBlock(subject) {
  if (subject.score === null) return null;
  const share = (value) => `${Math.min(100, Math.max(0, 100 * value))}%`;
  const fill = el("span", { class: "bar-fill" });
  fill.style.left = "0";
  fill.style.right = `calc(100% - ${share(subject.score)})`;
  const bar = el("span", { class: "bar wide", "aria-hidden": "true" }, fill);
  if (subject.majority !== null) {
    const line = el("span", { class: "chance" });
    line.style.left = share(subject.majority);
    bar.append(line);
  }
  return block("Held-out score",
    el("p", { class: "figure" }, el("span", { class: "big number" }, decimals(subject.score)), ` ${inWords(subject.scoreName ?? "")}`),
    bar,
    subject.majority === null ? null : el("p", { class: "hint" }, `The line is the most frequent label alone: ${decimals(subject.majority)}.`));
}

function costBlock(subject) {
  const { cost } = subject;
  if (!cost) return null;
  const facts = [["calls", thousands(cost.calls)]];
  if (cost.kept) facts.push(["answers kept from before", thousands(cost.kept)]);
  if (cost.tokens_in !== null) facts.push(["tokens read", thousands(cost.tokens_in)]);
  if (cost.tokens_out !== null) facts.push(["tokens written", thousands(cost.tokens_out)]);
  if (cost.latency_ms !== null) facts.push(["latency", `${thousands(Math.round(cost.latency_ms))} ms a call`]);
  if (cost.usd !== null && cost.calls) facts.push(["a thousand calls", dollars((1000 * cost.usd) / cost.calls)]);
  return block("What asking it cost",
    cost.usd === null ? null : el("p", { class: "figure" }, el("span", { class: "big number" }, dollars(cost.usd)), " for the pool"),
    definition(facts),
    cost.usd === null ? el("p", { class: "hint" }, "The study names no prices for its endpoint.") : null);
}

function promptBlock({ prompt }) {
  if (!prompt) return null;
  const words = Object.entries(prompt.verbalizer);
  const text = (title, content) => (content === null ? null : [el("h4", {}, title), el("pre", { tabindex: 0, "aria-label": title }, el("bdi", {}, content))]);
  return block("Prompt", ...[text("System", prompt.system), text("Template", prompt.template), text("Then", prompt.follow_up)].flat(),
    words.length ? el("h4", {}, "Words that stand for the labels") : null,
    words.length ? definition(words.map(([label, said]) => [label, said.join(", ")])) : null);
}

function historyBlock(subject) {
  if (!subject.history.length) return null;
  const nameOfSpace = (id) => data.spaces.find((one) => one.id === id)?.name ?? id;
  const spaces = [...new Set(subject.history.map((version) => version.space))];
  const charts = spaces.flatMap((id) => {
    const versions = subject.history.filter((version) => version.space === id);
    if (versions.length < 2) return [];
    const least = Math.min(...versions.map((version) => version.similarity));
    const low = Math.min(0.9, Math.floor(least * 10) / 10);
    return [el("h4", {}, spaces.length > 1 ? nameOfSpace(id) : "Similarity with the version that counts now"), lineChart({
      label: `${plural(versions.length, "version")} in ${nameOfSpace(id)}, similarity with the one that counts now`, low, high: 1, ticks: [low, 1], wide: true,
      series: [{ name: "version", style: "s0", lines: [versions.map(({ made, similarity: value, current }) =>
        ({ made, value, alarm: false, title: `${made}: ${decimals(value, 3)}${current ? ", the current one" : ""}` }))] }],
    })];
  });
  const rows = [...subject.history].reverse().map((version) => [version.made, nameOfSpace(version.space), version.current ? "now" : "",
    decimals(version.similarity, 3), el("code", { class: "inline" }, version.fingerprint), el("code", { class: "inline" }, version.run ?? ""), el("code", { class: "inline" }, version.flow_run ?? "")]);
  return block("History", el("p", { class: "hint" }, subject.history.length === spaces.length
    ? "Embedded once in each space; nothing has changed since." : `${plural(subject.history.length, "embedding")} over time.`),
    charts, figures(plural(rows.length, "embedding"), ["made", "space", "counts", "similarity", "fingerprint", "MLflow run", "Prefect flow run"], rows));
}

const LISTED = 10; // of each kind
function nearestBlocks(row, subject) {
  return spacesOf(row).map((one) => {
    const lists = [OTHER[subject.kind], subject.kind].map((kind) => [kind, mostRight(nearestIn(one, row, kind)).slice(0, LISTED)]).filter(([, found]) => found.length);
    const judged = lists.some(([, found]) => found.some((near) => near.accuracy?.expected != null));
    const title = `${judged ? "Right most often" : "Nearest"}${data.spaces.length > 1 ? ` by ${one.name}` : ""}`;
    const others = (kind) => one.members.filter((other) => other !== row && data.subjects[other].kind === kind).length;
    return block(title, lists.length ? null : el("p", { class: "hint" }, "Nothing to compare with."), lists.map(([kind, found]) => [
      el("h4", {}, kind === "dataset" ? "Datasets" : "Models", 
        found.length < others(kind) ? `, ${found.length} of ${others(kind)}; fute ${judged ? "match" : "nearest"} lists all` : ""),
      el("ol", { class: "near-list" }, found.map((near) => el("li", {}, subjectLink(near), rightIn(near), scoreBar(near))))]).flat());
  });
}

function driftBlock(subject) {
  if (!subject.drift.length) return null;
  return block("Drift", driftVerdict(subject), driftChart(subject, true), driftKey(), driftFigures(subject));
}

function showSubject(root, row) {
  const subject = data.subjects[row];
  const index = indexByRow.get(row) ?? null;
  const back = el("a", { class: "back", href: `#${new URLSearchParams({ space: space.id })}` }, "← Overview");
  const onMap = el("button", { type: "button", class: "plain-button" }, "Show it on the map");
  onMap.addEventListener("click", () => { pin(index); location.hash = "map"; });
  root.replaceChildren(
    el("nav", { class: "crumbs", "aria-label": "Back" }, back, index === null ? "" : onMap),
    el("h2", { id: "subject-name", tabindex: -1 }, mark(index, subject.kind), nameOf(subject.id)),
    el("div", { class: "subject-columns" },
      el("div", {}, ...[block("What it is", definition(knownFacts(subject))), scoreBlock(subject), costBlock(subject), promptBlock(subject)].filter(Boolean)),
      el("div", {}, ...[...nearestBlocks(row, subject), driftBlock(subject), historyBlock(subject)].filter(Boolean))));
}
