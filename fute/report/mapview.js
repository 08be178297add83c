/* The geometry of the map: from places to pixels, zoomed and moved. Both axes share one scale, so distances stay true. */

const MAX_ZOOM = 24;

class MapView {
  constructor() {
    this.zoom = 1;
    this.moved = [0, 0];
  }

  /* Fit all places into width x height pixels, turned by a quarter where that gives them more room. */
  fit(places, width, height, margin, radii) {
    Object.assign(this, { width, height, radii });
    const spread = (values) => Math.max(...values) - Math.min(...values);
    const middle = (values) => (Math.max(...values) + Math.min(...values)) / 2;
    let xs = subjects.map((_, index) => places[2 * index]);
    let ys = subjects.map((_, index) => -places[2 * index + 1]);
    const turned = (spread(xs) > spread(ys)) !== (width > height);
    if (turned) [xs, ys] = [ys, xs];
    const scales = [(width - 2 * margin.x) / spread(xs), (height - 2 * margin.y) / spread(ys)].filter(Number.isFinite);
    const scale = scales.length ? Math.min(...scales) : 1;
    const [middleX, middleY] = [middle(xs), middle(ys)];
    this.places = subjects.map((_, index) => [(xs[index] - middleX) * scale, (ys[index] - middleY) * scale]);
    this.spreadOut();
  }

  /* Pixels of every subject at this zoom, those that would cover each other pushed apart; once per zoom, not per move. */
  spreadOut() {
    const widest = 2 * Math.max(...this.radii);
    const spots = this.places.map(([x, y]) => [x * this.zoom, y * this.zoom]);
    const byX = spots.map((_, index) => index);
    for (let round = 0; round < 12; round++) {
      byX.sort((a, b) => spots[a][0] - spots[b][0] || a - b);
      let pushed = false;
      for (let left = 0; left < count; left++) {
        const a = spots[byX[left]];
        for (let right = left + 1; right < count; right++) {
          const b = spots[byX[right]];
          if (b[0] - a[0] >= widest) break;
          const apart = 0.9 * (this.radii[byX[left]] + this.radii[byX[right]]);
          let [dx, dy] = [b[0] - a[0], b[1] - a[1]];
          let distance = Math.hypot(dx, dy);
          if (distance >= apart) continue;
          if (distance < 1e-6) {
            // One place: leave it in the directions of a sunflower's seeds, which never coincide.
            const angle = 2.39996 * right;
            [dx, dy, distance] = [Math.cos(angle), Math.sin(angle), 1];
          }
          const push = (apart - Math.min(distance, apart * 0.999)) / 2 / distance;
          a[0] -= dx * push; a[1] -= dy * push;
          b[0] += dx * push; b[1] += dy * push;
          pushed = true;
        }
      }
      if (!pushed) break;
    }
    this.spots = spots;
  }

  position(index) {
    const [x, y] = this.spots[index];
    return [x + this.width / 2 + this.moved[0], y + this.height / 2 + this.moved[1]];
  }

  /* Zoom by a factor, the pixel (x, y) staying where it is. */
  zoomAt(factor, x, y) {
    const zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const ratio = zoom / this.zoom;
    const [centerX, centerY] = [x - this.width / 2, y - this.height / 2];
    this.moved = [centerX - (centerX - this.moved[0]) * ratio, centerY - (centerY - this.moved[1]) * ratio];
    this.zoom = zoom;
    this.moveBy(0, 0);
    this.spreadOut();
  }

  moveBy(dx, dy) {
    const bound = (value, size) => Math.max(-(size * (this.zoom - 0.6)) / 2, Math.min((size * (this.zoom - 0.6)) / 2, value));
    this.moved = [bound(this.moved[0] + dx, this.width), bound(this.moved[1] + dy, this.height)];
    if (this.zoom === 1) this.moved = [0, 0];
  }

  /* Bring a subject into view, if it is not. */
  show(index) {
    const [x, y] = this.position(index);
    const inside = x > 20 && x < this.width - 20 && y > 20 && y < this.height - 20;
    if (!inside) this.moveBy(this.width / 2 - x, this.height / 2 - y);
  }

  /* The subject nearest to a pixel, no further than `reach` pixels, or null. */
  at(x, y, reach) {
    let [best, bestDistance] = [null, reach];
    for (let index = 0; index < count; index++) {
      const [px, py] = this.position(index);
      const distance = Math.hypot(px - x, py - y);
      if (distance < bestDistance) [best, bestDistance] = [index, distance];
    }
    return best;
  }

  /* The next subject from `index` towards (dx, dy): near, and not far off that direction. */
  towards(index, dx, dy) {
    const [x, y] = this.position(index);
    let [best, bestCost] = [index, Infinity];
    for (let other = 0; other < count; other++) {
      const [px, py] = this.position(other);
      const along = (px - x) * dx + (py - y) * dy;
      const aside = Math.abs((px - x) * dy - (py - y) * dx);
      if (other === index || along <= 0 || aside > 2 * along) continue;
      const cost = along + 2 * aside;
      if (cost < bestCost) [best, bestCost] = [other, cost];
    }
    return best;
  }
}
