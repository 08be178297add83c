/* Placing labels beside points so that they cover neither each other nor a point. */

const BUCKET = 48; // pixels

/* Boxes in square buckets, so that a label is tested against what is near it only. */
class Occupied {
  constructor() {
    this.buckets = new Map();
  }
  around({ left, top, right, bottom }) {
    const keys = [];
    for (let column = Math.floor(left / BUCKET); column <= Math.floor(right / BUCKET); column++) {
      for (let row = Math.floor(top / BUCKET); row <= Math.floor(bottom / BUCKET); row++) keys.push(column * 4096 + row);
    }
    return keys;
  }
  add(box) {
    for (const key of this.around(box)) {
      if (!this.buckets.has(key)) this.buckets.set(key, []);
      this.buckets.get(key).push(box);
    }
  }
  hits(box) {
    for (const key of this.around(box)) {
      for (const other of this.buckets.get(key) ?? []) {
        if (box.left < other.right && other.left < box.right && box.top < other.bottom && other.top < box.bottom) return true;
      }
    }
    return false;
  }
}

/* Directions in order of preference: right, left, below, above, and the corners; [x, y, horizontal anchor 0 to 1]. */
const DIRECTIONS = [[1, 0, 0], [-1, 0, 1], [0, 1, 0.5], [0, -1, 0.5], [0.8, 0.8, 0], [0.8, -0.8, 0], [-0.8, 0.8, 1], [-0.8, -0.8, 1]];

/*
 * labels: [{x, y, radius, width, height, reaches, stays}] in order of importance; `reaches` lists the gaps in pixels to
 * try, `stays` is the place that it keeps. Gives each label its place {left, middle, far} or null where nothing is free.
 */
function placeLabels(labels, points, width, height) {
  const occupied = new Occupied();
  for (const { x, y, radius } of points) {
    occupied.add({ left: x - radius, top: y - radius, right: x + radius, bottom: y + radius });
  }
  const boxAt = ({ left, middle }, { width, height }) => ({ left, right: left + width, top: middle - height / 2, bottom: middle + height / 2 });
  return labels.map((label) => {
    if (label.stays) {
      occupied.add(boxAt(label.stays, label));
      return label.stays;
    }
    for (const reach of label.reaches) {
      for (const [dx, dy, anchor] of DIRECTIONS) {
        const away = label.radius + reach;
        const place = { left: label.x + dx * away - anchor * label.width, middle: label.y + dy * (away + (dx === 0 ? label.height / 2 : 0)), far: reach > label.reaches[0] };
        const box = boxAt(place, label);
        const apart = place.far ? 9 : 0; // from what it would be taken for the name of
        if (box.left < 2 || box.right > width - 2 || box.top < 2 || box.bottom > height - 2) continue;
        if (occupied.hits({ ...box, left: box.left - apart, right: box.right + apart })) continue;
        occupied.add(box);
        return place;
      }
    }
    return null;
  });
}
