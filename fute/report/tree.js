/* The tree beside the heat map: groups within groups. A branch under the pointer, or reached by keys, is a group. */

/* The open space's tree. Nodes below `count` are subjects, node count + i is merge i. */
const tree = {
  read() {
    const position = new Array(count);
    space.order.forEach((index, at) => { position[index] = at; });
    this.nodes = position.map((at) => ({ first: at, last: at, middle: at + 0.5, height: 0, parts: null, parent: null }));
    space.merges.forEach(([a, b, height]) => {
      const [one, other] = [this.nodes[a], this.nodes[b]];
      const above = one.middle < other.middle ? [a, b] : [b, a];
      one.parent = other.parent = this.nodes.length;
      this.nodes.push({
        first: Math.min(one.first, other.first), last: Math.max(one.last, other.last),
        middle: (one.middle + other.middle) / 2, height, parts: above, parent: null,
      });
    });
    this.root = this.nodes.length - 1;
  },
  membersOf(node) {
    const { first, last } = this.nodes[node];
    return space.order.slice(first, last + 1);
  },
};

/* Mean similarity of the pairs within a group. */
function cohesion(members) {
  let sum = 0;
  for (let a = 1; a < members.length; a++) for (let b = 0; b < a; b++) sum += similarity(members[a], members[b]);
  return sum / ((members.length * (members.length - 1)) / 2);
}

function groupInWords(members) {
  const shown = members.slice(0, 4).map((index) => el("span", {}, mark(index, subjects[index].kind), nameOf(subjects[index].id)));
  const rest = members.length - shown.length;
  return [el("strong", { class: "number" }, decimals(cohesion(members))), el("span", {}, `within ${plural(members.length, "subject")}:`),
    ...shown, rest > 0 ? el("span", { class: "times" }, `and ${rest} more`) : ""];
}

function renderGroup(panel) {
  const members = tree.membersOf(state.group);
  const close = el("button", { type: "button", class: "close", "aria-label": "Clear the selection" }, "×");
  close.addEventListener("click", () => change({ group: null }));
  const families = new Map();
  for (const index of members) {
    const name = subjects[index].family ?? subjects[index].task;
    if (name !== null) families.set(name, (families.get(name) ?? 0) + 1);
  }
  const [common] = [...families].sort((a, b) => b[1] - a[1]);
  panel.replaceChildren(
    el("div", { class: "panel-head" }, el("h3", {}, el("span", { class: "big number" }, members.length), " subjects in a group"), close),
    el("p", { class: "hint" }, `Mean similarity ${decimals(cohesion(members))}. `,
      common && common[1] > 1 ? [`${common[1]} of them belong to `, nameOf(inWords(common[0])), ". "] : null, "They stand out on the map."),
    el("ol", { class: "near-list members", tabindex: 0, "aria-label": "Members of the group" }, members.map((index) => el("li", {}, linkTo(index)))));
}

/* The picture of the tree, or null where there is nothing to branch. */
function buildTree() {
  if (count < 3) return null;
  tree.read();
  const { nodes } = tree;
  const heights = space.merges.map((merge) => merge[2]);
  const [lowest, highest] = [Math.min(...heights), Math.max(...heights)];
  const canvas = el("canvas", { class: "tree", tabindex: 0, role: "application", "aria-describedby": "heat-readout",
    "aria-label": "Tree of groups; right goes to the larger group, left into this one, up and down to its neighbour, Enter selects" });
  const block = el("div", { class: "heat-block", hidden: true });
  let grid = null;
  let style = null;
  let pointed = null; // node under the pointer or the keyboard
  let tell = () => {};

  const ROOM = 8; // pixels between the heat map and the first branch, and beyond the last
  const xOf = (height, leaf) => {
    const room = grid.treeWidth - 2 * ROOM;
    return leaf ? 2 : ROOM + 0.06 * room + 0.94 * room * (highest > lowest ? (height - lowest) / (highest - lowest) : 1);
  };
  const shown = () => pointed ?? state.group;

  function draw(newGrid, newStyle) {
    [grid, style] = [newGrid, newStyle];
    const { ratio, treeWidth, across, down } = grid;
    canvas.width = Math.round(treeWidth * ratio);
    canvas.height = Math.round(down * ratio);
    Object.assign(canvas.style, { width: `${treeWidth}px`, height: `${down}px`, left: `${across}px` });
    paint();
  }

  function paint() {
    const pen = canvas.getContext("2d");
    const { left, top, wide, tall, ratio, treeWidth } = grid;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, treeWidth, canvas.height);
    const chosen = shown();
    const inside = chosen === null ? null : nodes[chosen];
    for (const emphasised of inside ? [false, true] : [false]) {
      pen.beginPath();
      for (let node = count; node < nodes.length; node++) {
        const { first, last, height, parts, parent } = nodes[node];
        const of = inside !== null && first >= inside.first && last <= inside.last;
        if (of !== emphasised) continue;
        const x = xOf(height, false);
        const [y1, y2] = parts.map((part) => top + nodes[part].middle * tall);
        parts.forEach((part, at) => {
          const y = at ? y2 : y1;
          // Of hundreds of leaves the stems would be one grey bar.
          if (part < count && tall < 4) pen.moveTo(x - 3, y);
          else pen.moveTo(xOf(nodes[part].height, part < count), y);
          pen.lineTo(x, y);
        });
        pen.moveTo(x, y1);
        pen.lineTo(x, y2);
        if (parent === null) { pen.moveTo(x, (y1 + y2) / 2); pen.lineTo(x + ROOM - 2, (y1 + y2) / 2); }
      }
      pen.strokeStyle = style.getPropertyValue(emphasised ? "--accent" : "--muted");
      pen.lineWidth = tall < 3 ? (emphasised ? 1 : 0.6) : emphasised ? 1.6 : 1;
      pen.stroke();
    }
    block.hidden = inside === null;
    if (inside) {
      const size = inside.last - inside.first + 1;
      Object.assign(block.style, {
        left: `${left + inside.first * wide}px`, top: `${top + inside.first * tall}px`, width: `${size * wide}px`, height: `${size * tall}px`,
      });
    }
  }

  function pointTo(node) {
    if (pointed === node) return;
    pointed = node;
    paint();
    if (node !== null) tell(tree.membersOf(node), node);
  }

  /* The pointer cuts the tree where it is: the group of the row it is on, at that height. */
  function nodeAt(event) {
    const box = canvas.getBoundingClientRect();
    const at = Math.floor((event.clientY - box.top - grid.top) / grid.tall);
    if (at < 0 || at >= count) return null;
    let node = nodes[space.order[at]].parent;
    while (nodes[node].parent !== null && xOf(nodes[nodes[node].parent].height, false) <= event.clientX - box.left + 3) node = nodes[node].parent;
    return node;
  }

  canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") pointTo(nodeAt(event)); });
  canvas.addEventListener("pointerleave", () => pointTo(null));
  canvas.addEventListener("blur", () => pointTo(null));
  canvas.addEventListener("click", (event) => change({ group: nodeAt(event), pair: null }));
  canvas.addEventListener("keydown", (event) => {
    const node = shown();
    const sibling = node !== null && nodes[node].parent !== null ? nodes[nodes[node].parent].parts.find((part) => part !== node) : null;
    const into = node === null ? tree.root : nodes[node].parts.filter((part) => part >= count)
      .sort((a, b) => nodes[b].last - nodes[b].first - nodes[a].last + nodes[a].first)[0];
    const steps = { ArrowLeft: into, ArrowRight: node === null ? tree.root : nodes[node].parent, ArrowUp: sibling, ArrowDown: sibling };
    if (event.key in steps) {
      const next = steps[event.key];
      if (next !== undefined && next !== null && next >= count) pointTo(next);
    } else if ((event.key === "Enter" || event.key === " ") && pointed !== null) {
      change({ group: pointed, pair: null });
    } else if (event.key === "Escape") {
      pointTo(null);
      change({ group: null });
    } else {
      return;
    }
    event.preventDefault();
  });

  return { canvas, block, draw, show: paint, listen: (listener) => { tell = listener; } };
}
