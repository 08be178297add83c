/* Pointer, wheel, touch and keyboard on the map. */

const GESTURE_MS = 300; // wheel events closer than this belong to one movement of the hand

function listenOnMap({ view, picture, nodes, draw }) {
  const pointers = new Map(); // pointers held down, by id: [x, y]
  let dragged = false;
  let pageScrolledAt = -Infinity;

  const where = (event) => {
    const box = picture.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const subjectAt = (event) => {
    const named = event.target.closest?.(".point, .label");
    return named ? Number(named.dataset.index) : view.at(...where(event), REACH);
  };

  picture.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, where(event));
    if (pointers.size === 1) dragged = false;
  });

  picture.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    const now = where(event);
    if (!before) {
      if (event.pointerType !== "touch") change({ hovered: subjectAt(event) });
      picture.classList.toggle("over", state.hovered !== null);
      return;
    }
    if (pointers.size === 1) {
      if (!dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4) return;
      // Only now: a captured pointer's click goes to the picture, not to the point that was meant.
      if (!dragged) picture.setPointerCapture(event.pointerId);
      dragged = true;
      view.moveBy(now[0] - before[0], now[1] - before[1]);
    } else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (point) => Math.max(1, Math.hypot(point[0] - other[0], point[1] - other[1]));
      view.zoomAt(spread(now) / spread(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      dragged = true;
    }
    pointers.set(event.pointerId, now);
    draw();
  });

  for (const end of ["pointerup", "pointercancel"]) {
    // On the window: a button may be let go outside of the map.
    window.addEventListener(end, (event) => pointers.delete(event.pointerId), { signal: life.signal });
  }
  picture.addEventListener("pointerleave", () => change({ hovered: null }));

  picture.addEventListener("click", (event) => {
    if (dragged) { dragged = false; return; }
    const index = subjectAt(event);
    change({ pinned: index, hovered: index });
  });
  picture.addEventListener("dblclick", (event) => {
    view.zoomAt(2, ...where(event));
    draw();
  });

  // A wheel that was scrolling the page goes on scrolling it when the map comes under the pointer.
  window.addEventListener("wheel", (event) => {
    if (!picture.contains(event.target)) pageScrolledAt = event.timeStamp;
  }, { passive: true, capture: true, signal: life.signal });
  picture.addEventListener("wheel", (event) => {
    const scrolling = event.timeStamp - pageScrolledAt < GESTURE_MS && !event.ctrlKey;
    if (scrolling || (event.deltaY > 0 && view.zoom === 1)) {
      pageScrolledAt = event.timeStamp;
      return;
    }
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
    view.zoomAt(Math.exp(-Math.max(-240, Math.min(240, pixels)) / 400), ...where(event));
    draw();
    change({ hovered: subjectAt(event) });
  }, { passive: false });

  const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  picture.addEventListener("keydown", (event) => {
    const point = event.target.closest(".point");
    if (!point) return;
    const index = Number(point.dataset.index);
    if (event.key in ARROWS) {
      const next = view.towards(index, ...ARROWS[event.key]);
      point.setAttribute("tabindex", -1);
      nodes[next].point.setAttribute("tabindex", 0);
      nodes[next].point.focus();
    } else if (event.key === "Enter" || event.key === " ") {
      pin(state.pinned === index ? null : index);
    } else if (event.key === "Escape") {
      change({ pinned: null, hovered: null });
    } else {
      return;
    }
    event.preventDefault();
  });
  picture.addEventListener("focusin", (event) => {
    const point = event.target.closest(".point");
    if (!point || !point.matches(":focus-visible")) return;
    view.show(Number(point.dataset.index));
    change({ hovered: Number(point.dataset.index) });
  });
  picture.addEventListener("focusout", () => change({ hovered: null }));
}
