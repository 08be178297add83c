/* The heat map: every pair as a cell of a canvas, so that hundreds of subjects stay quick. */

const MIN_LABEL_CELL = 11; // pixels of a cell from which on rows and columns carry names
const MIN_VALUE_CELL = 27; // ... from which on cells carry their number

/* The colours' ends: what most pairs lie between, so that the diagonal and single twins do not take all contrast. */
function heatRange() {
  const values = new Float32Array((count * (count - 1)) / 2);
  for (let row = 1, at = 0; row < count; row++) for (let column = 0; column < row; column++) values[at++] = similarity(row, column);
  if (!values.length) return { low: -1, high: 1 };
  values.sort();
  const at = (share) => values[Math.round(share * (values.length - 1))];
  const upTo = (value) => Math.min(1, Math.max(0.1, Math.ceil(value * 10 - 1e-6) / 10));
  if (values[0] >= 0) return { low: Math.max(0, Math.min(0.9, Math.floor(at(0.02) * 10 + 1e-6) / 10)), high: upTo(at(0.98)), sequential: true };
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
  const scale = el("div", { class: "heat-scale", "aria-hidden": "true" });
  const branches = buildTree();
  const frame = el("div", { class: "heat-frame" }, canvas, ...(branches ? [branches.canvas, branches.block] : []), ...pinBands, ...bands);
  root.append(readout, frame, scale);

  let grid = null;    // {left, top, cell, size, ratio} in CSS pixels
  let cursor = null;  // [row, column] under the pointer or the keyboard, places in the order

  const colors = () => getComputedStyle(root).getPropertyValue("--heat").split(",").map((color) =>
    [1, 3, 5].map((start) => parseInt(color.trim().slice(start, start + 2), 16)));

  function colorOf(value, stops) {
    const share = Math.min(1, Math.max(0, (value - range.low) / (range.high - range.low)));
    const last = stops.length - 1;
    const at = (range.sequential ? 0.5 + share / 2 : share) * last;
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
    const gutter = Math.min(longest, available * 0.34, 190);
    let cell = Math.min(46, snapped(available - gutter - strip));
    const labelled = cell >= MIN_LABEL_CELL;
    if (!labelled) cell = snapped(available - strip);
    const start = Math.ceil((labelled ? gutter : 0) + strip);
    grid = { left: start, top: start, cell, size: cell * count, ratio, labelled, strip, treeWidth };
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
    const { left, top, cell, size, ratio, labelled, strip } = grid;
    const extent = Math.ceil(left + size);
    canvas.width = Math.round(extent * ratio);
    canvas.height = Math.round(extent * ratio);
    canvas.style.width = `${extent}px`;
    frame.style.width = `${extent + grid.treeWidth}px`;
    canvas.style.height = frame.style.height = `${extent}px`;

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
    pen.imageSmoothingEnabled = cell * ratio < 1;
    pen.imageSmoothingQuality = "high";
    pen.drawImage(small, left, top, size, size);

    for (let at = 0; at < count; at++) {
      const slot = colorSlot(order[at]);
      const offset = at * cell;
      const gap = cell > 4 ? 1 : 0;
      pen.fillStyle = style.getPropertyValue(slot === null ? "--ink" : `--c${slot}`);
      pen.fillRect(left - strip + 1, top + offset, strip - 4, cell - gap);
      pen.fillRect(left + offset, top - strip + 1, cell - gap, strip - 4);
    }
    if (labelled) drawNames(pen, style);
    if (cell >= MIN_VALUE_CELL) drawValues(pen, style, stops);
    branches?.draw(grid, extent, style);
    drawScale(stops);
    showCursor();
  }

  function drawNames(pen, style) {
    const { left, top, cell, strip } = grid;
    pen.textBaseline = "middle";
    order.forEach((index, at) => {
      const dataset = subjects[index].kind === "dataset";
      pen.font = `${dataset ? "600 " : ""}${Math.min(11.5, cell)}px ${style.fontFamily}`;
      pen.fillStyle = style.getPropertyValue(dataset ? "--ink" : "--muted");
      const name = fitted(pen, subjects[index].id, left - strip - 5);
      const middle = (at + 0.5) * cell;
      pen.textAlign = "right";
      pen.fillText(name, left - strip - 3, top + middle);
      pen.save();
      pen.translate(left + middle, top - strip - 3);
      pen.rotate(-Math.PI / 2);
      pen.textAlign = "left";
      pen.fillText(name, 0, 0);
      pen.restore();
    });
  }

  function drawValues(pen, style, stops) {
    const { left, top, cell } = grid;
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
    const ramp = el("span", { class: "ramp" });
    const samples = Array.from({ length: 9 }, (_, at) => colorOf(range.low + ((range.high - range.low) * at) / 8, stops));
    ramp.style.background = `linear-gradient(to right, ${samples.map((color) => `rgb(${color})`).join(", ")})`;
    scale.replaceChildren(
      el("span", {}, `${range.low > -1 ? "≤ " : ""}${decimals(range.low, 1)}`), ramp,
      el("span", {}, `${range.high < 1 ? "≥ " : ""}${decimals(range.high, 1)}`), el("span", { class: "scale-name" }, "similarity"));
  }

  const shown = () => cursor ?? (state.pair ? state.pair.map((index) => order.indexOf(index)) : null);

  function place(node, left, top, width, height) {
    Object.assign(node.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
  }

  function showCursor() {
    const { left, top, cell, size } = grid;
    const at = shown();
    const [row, column, spot] = bands;
    for (const band of bands) band.hidden = at === null;
    if (at !== null) {
      place(row, left, top + at[0] * cell, size, cell);
      place(column, left + at[1] * cell, top, cell, size);
      place(spot, left + at[1] * cell, top + at[0] * cell, cell, cell);
    }
    for (const band of pinBands) band.hidden = state.pinned === null;
    if (state.pinned !== null) {
      const offset = order.indexOf(state.pinned) * cell;
      place(pinBands[0], left, top + offset, size, cell);
      place(pinBands[1], left + offset, top, cell, size);
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
    const [column, row] = [event.clientX - box.left - grid.left, event.clientY - box.top - grid.top].map((at) => Math.floor(at / grid.cell));
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
