"use strict";
// Galleries of a report: enlarge, walk through, overlays, order, filter. No text of the
// page becomes markup here: nodes are moved and cloned, words set as text.

class GalleryView {
  constructor(root) {
    this.root = root;
    this.items = [...root.querySelectorAll(".item")];
    this.dialog = this.part(".viewer");
    this.stage = this.part(".stage");
    this.overlays = this.part(".overlays");
    this.controls = this.part(".controls");
    this.sort = this.part(".sort");
    this.filter = this.part(".filter");
    this.current = null;
    this.lastShown = [];
    this.full = false;
    this.listen();
  }

  part(selector) {
    return this.root.querySelector(selector);
  }

  listen() {
    for (const item of this.items) {
      const thumb = item.querySelector(".thumb");
      thumb.disabled = false;
      thumb.addEventListener("click", () => this.open(item));
    }
    for (const part of this.root.querySelectorAll(".needs-script")) part.hidden = false;
    this.sort?.addEventListener("change", () => this.arrange());
    this.filter?.addEventListener("change", () => this.arrange());
    this.part(".previous").addEventListener("click", () => this.step(-1));
    this.part(".next").addEventListener("click", () => this.step(1));
    this.part(".size").addEventListener("click", () => this.resize(!this.full));
    this.part(".close").addEventListener("click", () => this.dialog.close());
    this.part(".strength input")?.addEventListener("input", (event) =>
      this.root.style.setProperty("--strength", event.target.value / 100));
    this.dialog.addEventListener("keydown", (event) => this.press(event));
    this.dialog.addEventListener("close", () => this.closed());
    this.dialog.addEventListener("click", (event) => this.leave(event));
  }

  // Order and filter

  arrange() {
    const wanted = this.filter?.value ?? "";
    const list = this.part(".items");
    for (const item of this.sorted()) {
      item.hidden = wanted !== "" && item.dataset.kind !== wanted;
      list.append(item);
    }
  }

  sorted() {
    const [by, way] = (this.sort?.value ?? "").split(" ");
    if (by === "") return this.items;
    const sign = way === "down" ? -1 : 1;
    const keys = new Map(this.items.map((item) => [item, by === "kind"
      ? Number(item.dataset.kind) : JSON.parse(item.dataset.numbers)[by]]));
    return [...this.items].sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      if (a === null || b === null) return (a === null) - (b === null); // without: last
      return sign * (a - b);
    });
  }

  // The viewer

  open(item) {
    this.controls.style.minHeight = `${this.controls.offsetHeight}px`;
    if (this.overlays) this.part(".slot").append(this.overlays);
    this.dialog.showModal();
    this.show(item);
    this.stage.focus();
  }

  closed() {
    if (this.overlays) this.controls.prepend(this.overlays);
    this.controls.style.minHeight = "";
    this.stage.replaceChildren();
    this.current.querySelector(".thumb").focus();
  }

  leave(event) { // by a click beside the viewer
    const box = this.dialog.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom;
    if (event.target === this.dialog && !inside) this.dialog.close();
  }

  show(item) {
    const walk = this.shown();
    this.current = item;
    this.stage.replaceChildren(item.querySelector(".stack").cloneNode(true));
    this.part(".title").textContent = item.querySelector(".name").textContent;
    const told = [...item.querySelectorAll(".kind, .facts")];
    this.part(".told").replaceChildren(...told.map((part) => part.cloneNode(true)));
    this.part(".position").textContent = `${walk.indexOf(item) + 1} of ${walk.length}`;
    this.resize(this.full);
  }

  shown() {
    return [...this.root.querySelectorAll(".item:not([hidden])")];
  }

  step(by) {
    const walk = this.shown();
    const at = walk.indexOf(this.current) + by;
    this.show(walk[(at + walk.length) % walk.length]);
  }

  resize(full) {
    this.full = full;
    const image = this.stage.querySelector("img");
    const stack = this.stage.querySelector(".stack");
    stack.style.width = full ? `${image.getAttribute("width")}px` : "";
    stack.style.height = full ? `${image.getAttribute("height")}px` : "";
    this.part(".size").setAttribute("aria-pressed", full);
  }

  switchOverlays() {
    const boxes = [...(this.overlays?.querySelectorAll("input") ?? [])];
    const on = boxes.filter((box) => box.checked);
    const next = this.lastShown.length ? this.lastShown : boxes.slice(0, 1);
    for (const box of boxes) box.checked = !on.length && next.includes(box);
    if (on.length) this.lastShown = on;
  }

  press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const scrolls = this.full && event.target === this.stage;
    const arrows = !scrolls && event.target.type !== "range";
    const actions = {
      ArrowLeft: arrows && (() => this.step(-1)),
      ArrowRight: arrows && (() => this.step(1)),
      o: () => this.switchOverlays(),
      z: () => this.resize(!this.full),
    };
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const action = actions[key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

for (const root of document.querySelectorAll(".gallery")) new GalleryView(root);
