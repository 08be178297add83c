/* The 2-D map: points, labels, lines to the nearest, and what pointer and keyboard do on it. */

const LABEL_LENGTH = 28;  // characters of a name
const NARROW = 500;       // pixels; a narrower map has shorter names and fewer of them
const REACH = 22;        // pixels from a point within which the pointer means it

function buildMap(root) {
  const view = new MapView();
  const edges = svgEl("g", { class: "edges", "aria-hidden": "true" });
  const labels = svgEl("g", { class: "labels", "aria-hidden": "true" });
  const points = svgEl("g", { class: "points" });
  // Out of the order of tabs: Chromium takes the picture for something that scrolls. The tab stop is a point in it.
  const picture = svgEl("svg", { class: count > 160 ? "map many" : "map", role: "listbox", tabindex: -1, "aria-label": `Map of ${plural(count, "subject")}` }, edges, labels, points);
  const tooltip = el("div", { class: "tooltip", role: "tooltip", id: "tooltip", hidden: true });
  const frame = el("div", { class: "map-frame" }, picture, tooltip);
  const search = el("input", { type: "search", id: "map-search", placeholder: "Search the map", "aria-label": "Search the map", autocomplete: "off" });
  const found = el("span", { class: "found", "aria-live": "polite" });
  const key = el("div", { class: "map-key" });
  const truth = el("p", { class: "truth", "aria-live": "polite" });
  const ruler = document.createElement("canvas").getContext("2d");

  const radius = count <= 60 ? 5.5 : count <= 160 ? 4.5 : 3.4;
  const shortened = (text, length) => ([...text].length > length ? [...text].slice(0, length - 1).join("") + "…" : text);
  const nodes = subjects.map((subject, index) => {
    const dataset = subject.kind === "dataset";
    const size = dataset ? radius + 2.2 : radius;
    const shape = dataset ? svgEl("path", { d: `M0-${size} ${size} 0 0 ${size}-${size} 0Z` }) : svgEl("circle", { r: size });
    const facts = factLines(subject).map((line) => line.join(" ")).join(", ");
    const point = svgEl("g", {
      class: `point ${subject.kind}`, role: "option", tabindex: index ? -1 : 0, "data-index": index, "aria-selected": "false",
      "aria-label": `${subject.id}, ${facts}`,
    }, shape);
    const text = svgEl("text", { class: `label ${subject.kind}`, "data-index": index });
    const leader = dataset ? svgEl("line", { class: "leader" }) : null;
    points.append(point);
    if (leader) labels.append(leader);
    labels.append(text);
    return { point, text, leader, size, subject, place: null };
  });
  // Datasets lie above models: they are what the models are placed against.
  nodes.filter(({ subject }) => subject.kind === "dataset").forEach(({ point }) => points.append(point));

  function measure(width) {
    const style = getComputedStyle(document.body);
    for (const node of nodes) {
      const dataset = node.subject.kind === "dataset";
      node.textSize = dataset ? 12.5 : 11;
      ruler.font = `${dataset ? 600 : 400} ${node.textSize}px ${style.fontFamily}`;
      node.text.textContent = shortened(node.subject.id, width < NARROW ? 20 : LABEL_LENGTH);
      node.textWidth = ruler.measureText(node.text.textContent).width + 6;
    }
  }

  function fit() {
    const width = Math.max(240, root.clientWidth);
    const height = Math.round(Math.min(640, Math.max(440, width * 0.74)));
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("height", height);
    measure(width);
    view.fit(space.maps[state.map].places, width, height, { x: width < NARROW ? 30 : 70, y: 34 }, nodes.map(({ size }) => size));
    drawNow();
  }

  const focused = () => state.hovered ?? state.pinned;
  const lit = () => {
    const index = focused();
    if (index === null) return null;
    return new Set([index, ...["dataset", "model"].flatMap((kind) => nearestOf(index, kind, 3).map((near) => near.index))]);
  };

  /* Put everything where the view has it; at most once a frame, however many events there are. */
  let asked = 0;
  function draw() {
    asked ||= requestAnimationFrame(() => { asked = 0; drawNow(); });
  }

  function drawNow() {
    nodes.forEach(({ point }, index) => {
      const [x, y] = view.position(index);
      point.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    });
    picture.style.touchAction = view.zoom === 1 ? "pan-y" : "none";
    annotate();
  }

  function annotate(standing = false) {
    drawLabels(standing);
    drawEdges();
    placeTooltip();
  }

  /* standing: the names of what is lit stay where they are, so that one under the pointer does not run away from it. */
  function drawLabels(standing) {
    const first = lit();
    const inside = (index) => {
      const [x, y] = view.position(index);
      return x > -10 && x < view.width + 10 && y > -10 && y < view.height + 10;
    };
    const all = nodes.map((_, index) => index).filter(inside);
    // Too many names say nothing: models get theirs when few are in view.
    const roomForAll = all.length <= (view.width < NARROW ? 45 : 90);
    const far = roomForAll ? [3, 14, 26, 40] : [3, 14, 26];
    const visible = all.filter((index) => roomForAll || first?.has(index) || subjects[index].kind === "dataset");
    const stays = (index) => (standing && first?.has(index) ? nodes[index].place : null);
    const rank = (index) => (stays(index) ? 0 : first?.has(index) ? 1 : subjects[index].kind === "dataset" ? 2 : 3);
    visible.sort((a, b) => rank(a) - rank(b) || a - b);
    const spotOf = (index) => {
      const [x, y] = view.position(index);
      const { size, textWidth, textSize, subject } = nodes[index];
      return { x, y, radius: size, width: textWidth, height: textSize + 3, reaches: subject.kind === "dataset" ? far : [3] };
    };
    const spots = visible.map((index) => ({ ...spotOf(index), stays: stays(index) }));
    const placed = placeLabels(spots, all.map(spotOf), view.width, view.height);
    for (const node of nodes) {
      node.place = null;
      node.text.classList.add("off");
      node.leader?.classList.add("off");
    }
    placed.forEach((place, at) => {
      nodes[visible[at]].place = place;
      if (!place) return;
      const { text, leader, textSize } = nodes[visible[at]];
      text.classList.remove("off");
      text.setAttribute("x", place.left + 3);
      text.setAttribute("y", place.middle + textSize * 0.35);
      if (!place.far || !leader) return;
      const { x, y, width } = spots[at];
      leader.classList.remove("off");
      const [x2, y2] = [Math.max(place.left + 2, Math.min(place.left + width - 2, x)), place.middle];
      const share = (spots[at].radius + 1) / Math.hypot(x2 - x, y2 - y);
      furnish(leader, { x1: x + (x2 - x) * share, y1: y + (y2 - y) * share, x2, y2 }, []);
    });
  }

  function drawEdges() {
    const index = focused();
    edges.replaceChildren();
    if (index === null) return;
    const [x1, y1] = view.position(index);
    for (const kind of ["dataset", "model"]) {
      const near = nearestOf(index, kind, kind === "dataset" ? 1 : 3).filter((one) => one.index !== null);
      near.forEach((one, rank) => {
        const [x2, y2] = view.position(one.index);
        const like = kind === subjects[index].kind;
        edges.append(svgEl("line", { x1, y1, x2, y2, class: `edge${like ? " like" : ""}${rank ? " later" : ""}` }));
      });
    }
  }

  /* What stands out: a focused subject and its nearest, else a search, else a category; the rest is dimmed. */
  function emphasise() {
    const index = focused();
    const near = lit();
    const searched = state.query.trim() !== "";
    const members = state.group === null ? null : new Set(tree.membersOf(state.group));
    const stands = (subject, at) => {
      if (searched) return matches([subject.id, subject.kind, subject.type, subject.family, subject.task], state.query);
      if (members) return members.has(at);
      if (state.category) return state.category.includes(subject[state.colorBy]) && (state.colorBy === "family" || subject.kind === "model");
      return near === null || near.has(at);
    };
    let total = 0;
    nodes.forEach(({ point, text, leader, subject }, at) => {
      const out = stands(subject, at);
      total += out ? 1 : 0;
      const dim = !out && !near?.has(at) && at !== state.pinned;
      for (const node of [point, text, leader]) node?.classList.toggle("dim", dim);
      point.classList.toggle("match", searched && out);
      point.classList.toggle("focused", at === index);
      point.classList.toggle("pinned", at === state.pinned);
      point.setAttribute("aria-selected", String(at === state.pinned));
      const slot = colorSlot(at);
      point.dataset.color = slot === null ? "ink" : slot;
    });
    found.textContent = searched ? `${total} found` : "";
  }

  function placeTooltip() {
    tooltip.hidden = state.hovered === null;
    if (tooltip.hidden) return;
    const [x, y] = view.position(state.hovered);
    const [width, height] = [tooltip.offsetWidth, tooltip.offsetHeight];
    const left = x + 18 + width < view.width ? x + 18 : x - 18 - width;
    tooltip.style.left = `${Math.max(0, Math.min(left, view.width - width))}px`;
    // Beside the point where there is room; on a narrow map below or above it, so that the point stays visible.
    const beside = left >= 0 && left + width <= view.width;
    const top = beside ? y - height / 2 : y + 18 + height < view.height ? y + 18 : y - 18 - height;
    tooltip.style.top = `${Math.max(0, Math.min(top, view.height - height))}px`;
  }

  function showTooltip() {
    if (state.hovered !== null) tooltip.replaceChildren(...tooltipFor(state.hovered));
    placeTooltip();
  }

  function recolor() {
    key.replaceChildren(el("span", { class: "shape-key" }, mark(null, "dataset"), "dataset"),
      el("span", { class: "shape-key" }, mark(null, "model"), "model"), colorLegend());
    document.querySelectorAll(".mark[data-subject]").forEach((sign) => {
      const slot = colorSlot(Number(sign.dataset.subject));
      sign.dataset.color = slot === null ? "ink" : slot;
    });
  }

  const zoomAround = (factor) => { view.zoomAt(factor, view.width / 2, view.height / 2); drawNow(); };
  const zoomButton = (label, sign, act) => {
    const button = el("button", { type: "button", "aria-label": label, title: label }, sign);
    button.addEventListener("click", act);
    return button;
  };
  const zoomButtons = el("div", { class: "zoom", role: "group", "aria-label": "Zoom" },
    zoomButton("Zoom in", "+", () => zoomAround(1.5)),
    zoomButton("Zoom out", "−", () => zoomAround(1 / 1.5)),
    zoomButton("Show all", "⤢", () => zoomAround(1 / MAX_ZOOM)));

  const colorChoice = (value, label) => {
    const radio = el("input", { type: "radio", name: "color-by", value, checked: value === state.colorBy });
    radio.addEventListener("change", () => change({ colorBy: value, category: null }));
    return el("label", {}, radio, el("span", {}, label));
  };
  const mapChoice = ({ name }, at) => {
    const radio = el("input", { type: "radio", name: "map", value: at, checked: at === state.map });
    radio.addEventListener("change", () => change({ map: at }));
    return el("label", {}, radio, el("span", {}, name));
  };
  const maps = space.maps.length > 1 ? el("fieldset", { class: "choices maps" }, el("legend", {}, "Map"), space.maps.map(mapChoice)) : null;
  const choices = categories.family.names.length
    ? el("fieldset", { class: "choices" }, el("legend", {}, "Colour by"), colorChoice("type", "model kind"), colorChoice("family", "task family"))
    : null;

  search.addEventListener("input", () => change({ query: search.value }));
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const first = nodes.findIndex(({ point }) => point.classList.contains("match"));
    if (first >= 0) pin(first);
  });

  root.append(...[el("div", { class: "toolbar" }, ...[search, found, maps, choices, zoomButtons].filter(Boolean)), frame, key, truth]);
  listenOnMap({ view, picture, nodes, draw });

  onChange((changed) => {
    if (changed.has("pinned") && state.pinned !== null) {
      view.show(state.pinned);
      nodes.forEach(({ point }, index) => point.setAttribute("tabindex", index === state.pinned ? 0 : -1));
    }
    if (changed.has("colorBy") || changed.has("category")) recolor();
    emphasise();
    if (changed.has("map")) { tellTruth(); fit(); }
    if (changed.has("pinned")) drawNow();
    else if (changed.has("hovered")) annotate(true);
    if (changed.has("hovered")) showTooltip();
    if (changed.has("pinned")) renderPanel(byId("map-panel"));
  });

  /* How far the picture is to be believed. */
  function tellTruth() {
    const { name, kept, trust, variance } = space.maps[state.map];
    const shares = kept.map(([k, share]) => `${percent(share)} of ${k === 1 ? "the nearest" : `the ${k} nearest`}`);
    truth.replaceChildren(...(kept.length === 0 ? [] : [
      el("strong", {}, `This map keeps ${shares.join(" and ")} of each subject`),
      ` (trustworthiness ${decimals(trust)}).`,
      variance === null ? "" : ` ${percent(variance)} of the variance lies in its plane.`,
      name === "t-SNE" ? " How far apart distant groups lie says little." : "",
      " The lines drawn from a subject lead to those that really are nearest.",
    ].filter(Boolean)));
  }

  recolor();
  tellTruth();
  emphasise();
  renderPanel(byId("map-panel"));
  onResize(root, fit);
  fit();
}
