// A table that shows a page at a time: a thousand rows cost as much as fifty.
import { h, many, say } from "./dom.js";

export class Table {
  // columns: { title, cell(row) -> words or node, key?(row) -> what to sort by, number? }
  constructor(caption, columns, { size = 50, sort = null, down = false, none = "nothing yet" } = {}) {
    Object.assign(this, { columns, size, none, sort, down, rows: [], page: 0, filter: null });
    this.body = h("tbody");
    this.heads = columns.map((column, index) => this.head(column, index));
    this.words = h("p", { class: "quiet", "aria-live": "polite" });
    this.back = h("button", { type: "button", onclick: () => this.turn(-1) }, "Back");
    this.on = h("button", { type: "button", onclick: () => this.turn(1) }, "More");
    this.pager = h("div", { class: "pager" }, this.back, this.on, this.words);
    const table = h("table", null, h("caption", null, caption), h("thead", null, h("tr", null, this.heads)), this.body);
    this.frame = h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": caption }, table);
    this.element = h("div", { class: "paged" }, this.frame, this.pager);
  }

  head(column, index) {
    const kind = column.number ? "number" : null;
    if (!column.key) return h("th", { scope: "col", class: kind }, column.title);
    return h("th", { scope: "col", class: kind },
      h("button", { type: "button", onclick: () => this.order(index) }, column.title, h("span", { "aria-hidden": "true", class: "arrow" })));
  }

  order(index) {
    this.down = this.sort === index ? !this.down : Boolean(this.columns[index].number);
    this.sort = index;
    this.page = 0;
    this.draw();
  }

  turn(by) {
    this.page += by;
    this.draw();
    this.frame.scrollIntoView({ block: "nearest" });
  }

  set(rows, filter = this.filter) {
    this.rows = rows;
    this.filter = filter;
    this.draw();
  }

  draw() {
    let rows = this.filter ? this.rows.filter(this.filter) : this.rows;
    if (this.sort !== null) rows = sorted(rows, this.columns[this.sort].key, this.down);
    const pages = Math.max(1, Math.ceil(rows.length / this.size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    const first = this.page * this.size, shown = rows.slice(first, first + this.size);
    this.body.replaceChildren(...(shown.length ? shown.map((row) => this.row(row)) : [this.nothing()]));
    this.heads.forEach((head, index) => this.arrow(head, index));
    this.back.disabled = this.page === 0;
    this.on.disabled = this.page === pages - 1;
    this.pager.hidden = pages === 1;
    say(this.words, `${first + 1} to ${first + shown.length} of ${many(rows.length, "row")}`);
  }

  row(row) {
    return h("tr", null, this.columns.map((column, index) => {
      const props = { class: column.number ? "number" : null };
      const made = column.cell(row);
      return index === 0 ? h("th", { scope: "row", ...props }, made) : h("td", props, made);
    }));
  }

  nothing() {
    return h("tr", null, h("td", { colspan: this.columns.length, class: "quiet" }, this.none));
  }

  arrow(head, index) {
    if (!this.columns[index].key) return;
    const mine = this.sort === index;
    head.setAttribute("aria-sort", mine ? (this.down ? "descending" : "ascending") : "none");
    say(head.querySelector(".arrow"), mine ? (this.down ? " ↓" : " ↑") : "");
  }
}

function sorted(rows, key, down) {
  const by = (a, b) => {
    const x = key(a), y = key(b);
    if (x === y) return 0;
    if (x === null || x === undefined) return 1;
    if (y === null || y === undefined) return -1;
    return (x < y ? -1 : 1) * (down ? -1 : 1);
  };
  return [...rows].sort(by);
}
