/* The heat map: every pair as a cell of a canvas, so that hundreds of subjects stay quick. */

const MIN_LABEL_CELL = 11; // pixels of a cell from which on rows or columns carry names
const MOST_NAMED = 100;    // rows that are made that high for their names, though their columns are narrower
const MIN_VALUE_CELL = 27; // ... from which on cells carry their number

/*
 * The colours' ends: what most pairs lie between, so that the diagonal and single twins do not take all contrast. From
 * zero on, and at least to a half, so that what unrelated subjects differ by stays pale; only where all are alike, apart.
 */
function heatRange() {
  const values = new Float32Array((count * (count - 1)) / 2);
  for (let row = 1, at = 0; row < count; row++) for (let column = 0; column < row; column++) values[at++] = similarity(row, column);
  if (!values.length) return { low: 0, high: 1 };
  values.sort();
  const at = (share) => values[Math.round(share * (values.length - 1))];
  const upTo = (value) => Math.min(1, Math.max(0.5, Math.ceil(value * 10 - 1e-6) / 10));
  const lowest = Math.floor(at(0.02) * 10 + 1e-6) / 10;
  if (values[0] >= 0) return { low: lowest < 0.5 ? 0 : Math.min(0.9, lowest), high: upTo(at(0.98)) };
  const bound = upTo(Math.max(-at(0.01), at(0.99)));
  return { low: -bound, high: bound };
}

function buildHeatmap(root) {
  const { order } = space;
  const range = heatRange();
  const canvas = el("canvas", { class: "heat", tabindex: 0, role: "application", "aria-label":
    `Similarities of ${plural(count, "subject")}; the arrow keys move, Enter selects a pair`, "aria-describedby": "heat-readout" });
  const bands = ["band row", "band column", "cell"].map((name) => el("div", { class: `heat-${name}`, hidden: true }));
  const pinBands = ["band row pin", "band column pin"].map((name) => el("div", { class: `heat-${name}`, hidden: true }));
  const readout = el("p", { class: "readout", id: "heat-readout", "aria-live": "polite" });
  const scale = el("p", { class: "heat-scale key" });
  const branches = buildTree();
  const frame = el("div", { class: "heat-frame" }, canvas, ...(branches ? [branches.canvas, branches.block] : []), ...pinBands, ...bands);
  root.append(readout, frame, scale);

  let grid = null;    // {left, top, wide, tall, across, down, ratio ...} in CSS pixels; a cell is wide x tall
  let cursor = null;  // [row, column] under the pointer or the keyboard, places in the order

  const colors = () => getComputedStyle(root).getPropertyValue("--heat").split(",").map((color) =>
    [1, 3, 5].map((start) => parseInt(color.trim().slice(start, start + 2), 16)));

  function colorOf(value, stops) {
    const share = Math.min(1, Math.max(0, (value - range.low) / (range.high - range.low)));
    const last = stops.length - 1;
    const at = (range.low < 0 ? share : 0.5 + share / 2) * last;
    const lower = Math.min(last - 1, Math.floor(at));
    return stops[lower].map((part, channel) => Math.round(part + (stops[lower + 1][channel] - part) * (at - lower)));
  }

  function layout(pen) {
    const ratio = window.devicePixelRatio || 1;
    const treeWidth = branches ? Math.round(Math.min(150, root.clientWidth * 0.17)) : 0;
    const available = Math.min(root.clientWidth, 780 + treeWidth) - treeWidth;
    const strip = 9;
    const snapped = (room) => {
      const device = (room * ratio) / count;
      return (device >= 1 ? Math.floor(device) : device) / ratio;
    };
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const longest = Math.max(...subjects.map((subject) => pen.measureText(subject.id).width)) + 10;
    const gutterOf = (share) => Math.min(longest, available * share, 190);
    const cellOf = (room) => Math.min(46, snapped(available - room - strip));
    // Where cells are narrow the columns, which come in the order of the rows, go without names.
    const columns = cellOf(gutterOf(0.34)) >= MIN_LABEL_CELL;
    const gutter = gutterOf(columns ? 0.34 : 0.45);
    let wide = cellOf(gutter);
    const rows = columns || (count <= MOST_NAMED && wide >= 2);
    if (!rows) wide = snapped(available - strip);
    const tall = rows && !columns ? MIN_LABEL_CELL : wide;
    const [left, top] = [rows, columns].map((named) => Math.ceil((named ? gutter : 0) + strip));
    grid = { left, top, wide, tall, across: Math.ceil(left + wide * count), down: Math.ceil(top + tall * count), ratio, rows, columns, strip, treeWidth };
  }

  function fitted(pen, text, width) {
    if (pen.measureText(text).width <= width) return text;
    const letters = [...text];
    while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > width) letters.pop();
    return letters.join("") + "…";
  }

  function draw() {
    const pen = canvas.getContext("2d");
    layout(pen);
    const { left, top, wide, tall, across, down, ratio, strip } = grid;
    canvas.width = Math.round(across * ratio);
    canvas.height = Math.round(down * ratio);
    canvas.style.width = `${across}px`;
    frame.style.width = `${across + grid.treeWidth}px`;
    canvas.style.height = frame.style.height = `${down}px`;

    const stops = colors();
    const style = getComputedStyle(document.body);
    // Colours of all steps first: a large map has more cells than there are shades.
    const shades = Uint32Array.from({ length: 512 }, (_, step) => {
      const [red, green, blue] = colorOf(range.low + ((range.high - range.low) * step) / 511, stops);
      return (255 << 24) | (blue << 16) | (green << 8) | red;
    });
    const image = new ImageData(count, count);
    const pixels = new Uint32Array(image.data.buffer);
    for (let row = 0; row < count; row++) {
      for (let column = 0; column < count; column++) {
        const share = (similarity(order[row], order[column]) - range.low) / (range.high - range.low);
        pixels[row * count + column] = shades[Math.round(511 * Math.min(1, Math.max(0, share)))];
      }
    }
    const small = el("canvas", { width: count, height: count });
    small.getContext("2d").putImageData(image, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.imageSmoothingEnabled = wide * ratio < 1;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, left, top, wide * count, tall * count);

    for (let at = 0; at < count; at++) {
      const slot = colorSlot(order[at]);
      const gap = wide > 4 ? 1 : 0;
      pen.fillStyle = style.getPropertyValue(slot === null ? "--ink" : `--c${slot}`);
      pen.fillRect(left - strip + 1, top + at * tall, strip - 4, tall - gap);
      pen.fillRect(left + at * wide, top - strip + 1, wide - gap, strip - 4);
    }
    if (grid.rows) drawNames(pen, style);
    if (wide >= MIN_VALUE_CELL) drawValues(pen, style, stops);
    branches?.draw(grid, style);
    drawScale(stops);
    showCursor();
  }

  function drawNames(pen, style) {
    const { left, top, wide, tall, columns, strip } = grid;
    pen.textBaseline = "middle";
    order.forEach((index, at) => {
      const dataset = subjects[index].kind === "dataset";
      pen.font = `${dataset ? "600 " : ""}${Math.min(11.5, tall)}px ${style.fontFamily}`;
      pen.fillStyle = style.getPropertyValue(dataset ? "--ink" : "--muted");
      const name = fitted(pen, subjects[index].id, left - strip - 5);
      pen.textAlign = "right";
      pen.fillText(name, left - strip - 3, top + (at + 0.5) * tall);
      if (!columns) return;
      pen.save();
      pen.translate(left + (at + 0.5) * wide, top - strip - 3);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(name, 0, 0);
      pen.restore();
    });
  }

  function drawValues(pen, style, stops) {
    const { left, top, wide: cell } = grid; // which is square by then
    pen.font = `${cell >= 36 ? 11.5 : 10}px ${style.fontFamily}`;
    pen.textAlign = "center";
    order.forEach((row, down) => order.forEach((column, across) => {
      const value = similarity(row, column);
      const [red, green, blue] = colorOf(value, stops);
      pen.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#16181b" : "#ffffff";
      const text = decimals(value).replace(/^(−?)0\./, "$1.");
      pen.fillText(text === "1.00" ? "1" : text, left + (across + 0.5) * cell, top + (down + 0.5) * cell);
    }));
  }

  function drawScale(stops) {
    const ramp = el("span", { class: "ramp", "aria-hidden": "true" });
    const samples = Array.from({ length: 9 }, (_, at) => colorOf(range.low + ((range.high - range.low) * at) / 8, stops));
    ramp.style.background = `linear-gradient(to right, ${samples.map((color) => `rgb(${color})`).join(", ")})`;
    const meaning = range.low > 0 ? "similarity: all are much alike here" : "similarity: 1 is the same, 0 has nothing in common" +
      (range.low < 0 ? "; below 0 is as unrelated, and does not mean opposite answers" : "");
    scale.replaceChildren(
      el("span", {}, `${range.low !== 0 && range.low > -1 ? "≤ " : ""}${decimals(range.low, 1)}`), ramp,
      el("span", {}, `${range.high < 1 ? "≥ " : ""}${decimals(range.high, 1)}`), el("span", { class: "meaning" }, meaning));
  }

  const shown = () => cursor ?? (state.pair ? state.pair.map((index) => order.indexOf(index)) : null);

  function place(node, left, top, width, height) {
    Object.assign(node.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  }

  function showCursor() {
    const { left, top, wide, tall } = grid;
    const [right, bottom] = [wide * count, tall * count];
    const at = shown();
    const [row, column, spot] = bands;
    for (const band of bands) band.hidden = at === null;
    if (at !== null) {
      place(row, left, top + at[0] * tall, right, tall);
      place(column, left + at[1] * wide, top, wide, bottom);
      place(spot, left + at[1] * wide, top + at[0] * tall, wide, tall);
    }
    for (const band of pinBands) band.hidden = state.pinned === null;
    if (state.pinned !== null) {
      const pinned = order.indexOf(state.pinned);
      place(pinBands[0], left, top + pinned * tall, right, tall);
      place(pinBands[1], left + pinned * wide, top, wide, bottom);
    }
    if (at === null) {
      readout.replaceChildren(el("span", { class: "hint" }, branches ? "Point at a cell, or at a branch of the tree beside it, to read it." : "Point at a cell, or tap it, to read it."));
      return;
    }
    const [a, b] = at.map((position) => order[position]);
    readout.replaceChildren(
      el("strong", { class: "number" }, decimals(similarity(a, b), 3)),
      el("span", {}, mark(a, subjects[a].kind), nameOf(subjects[a].id)), el("span", { class: "times" }, "×"),
      el("span", {}, mark(b, subjects[b].kind), nameOf(subjects[b].id)));
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - grid.left) / grid.wide);
    const row = Math.floor((event.clientY - box.top - grid.top) / grid.tall);
    return row >= 0 && column >= 0 && row < count && column < count ? [row, column] : null;
  }
  const moveTo = (at) => { cursor = at; showCursor(); };
  const select = (at) => change({ pair: at.map((position) => order[position]), group: null });
  branches?.listen((members, node) => readout.replaceChildren(...groupInWords(members, node)));

  canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") moveTo(cellAt(event)); });
  canvas.addEventListener("pointerleave", () => moveTo(null));
  canvas.addEventListener("blur", () => moveTo(null));
  canvas.addEventListener("click", (event) => {
    const at = cellAt(event);
    if (at) select(at);
    else change({ pair: null });
  });
  const ARROWS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  canvas.addEventListener("keydown", (event) => {
    if (event.key in ARROWS) {
      const from = shown();
      const step = ARROWS[event.key];
      moveTo(from ? from.map((at, axis) => Math.min(count - 1, Math.max(0, at + step[axis]))) : [0, 0]);
    } else if ((event.key === "Enter" || event.key === " ") && cursor) {
      select(cursor);
    } else if (event.key === "Escape") {
      change({ pair: null });
    } else {
      return;
    }
    event.preventDefault();
  });

  onChange((changed) => {
    if (changed.has("colorBy")) draw();
    if (changed.has("group")) branches?.show();
    if (changed.has("pair") || changed.has("group")) renderPair(byId("heatmap-panel"));
    if (changed.has("pair") || changed.has("pinned")) showCursor();
  });
  onResize(root, draw);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw, { signal: life.signal });
  renderPair(byId("heatmap-panel"));
  draw();
}

/* The pairs of models that are most alike: near duplicates, if there are any. */
function twins() {
  const pairs = [];
  for (let a = 0; a < count; a++) {
    for (let b = 0; b < a; b++) {
      if (subjects[a].kind !== "model" || subjects[b].kind !== "model") continue;
      const value = similarity(a, b);
      if (pairs.length === 5 && value <= pairs[4].value) continue;
      pairs.push({ a: b, b: a, value });
      pairs.sort((one, other) => other.value - one.value);
      pairs.length = Math.min(5, pairs.length);
    }
  }
  if (!pairs.length) return [];
  const line = ({ a, b, value }) => {
    const button = el("button", { type: "button", class: "twins" },
      [a, b].map((index) => el("span", { class: "subject" }, mark(index, "model"), nameOf(subjects[index].id))),
      el("span", { class: "number" }, decimals(value)));
    button.addEventListener("click", () => change({ pair: [a, b], group: null }));
    return el("li", {}, button);
  };
  return [el("div", { class: "near" }, el("h4", {}, "Models most alike"), el("ol", { class: "twin-list" }, pairs.map(line)))];
}

function renderPair(panel) {
  if (state.group !== null) {
    renderGroup(panel);
    return;
  }
  if (!state.pair) {
    panel.replaceChildren(el("p", { class: "hint" }, "Click or tap a cell to keep the pair here, or a branch of the tree to keep its group."), ...twins());
    return;
  }
  const [a, b] = state.pair;
  const close = el("button", { type: "button", class: "close", "aria-label": "Clear the selection" }, "×");
  close.addEventListener("click", () => change({ pair: null }));
  panel.replaceChildren(
    el("div", { class: "panel-head" }, el("h3", {}, el("span", { class: "big number" }, decimals(similarity(a, b), 3)), " similarity"), close),
    ...(a === b ? [a] : [a, b]).map((index) => el("div", { class: "pair-member" }, linkTo(index), factList(subjects[index]))));
}
