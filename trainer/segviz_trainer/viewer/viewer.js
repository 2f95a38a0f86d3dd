"use strict";
// Turns each figure's pictures into all of its slices. The voxels' format is told in packing.py; a browser that cannot
// inflate them keeps the pictures.

{
  const AXES = { // across, down and through a plane; each is drawn from its end, so right lies left and front or head on top
    axial: { across: 0, down: 1, through: 2, edges: "RLAP" },
    coronal: { across: 0, down: 2, through: 1, edges: "RLSI" },
    sagittal: { across: 1, down: 2, through: 0, edges: "APSI" },
  };
  const SWIPE = 6; // pixels a slice, at least

  async function inflate(base64) {
    const text = atob(base64), bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function unpack(bytes, about) {
    const count = about.shape.reduce((product, length) => product * length, 1);
    const planes = Math.ceil(about.organs / 8), levels = new Uint16Array(count);
    for (let i = 0, level = 0; i < count; i++) {
      const folded = bytes[i] | bytes[count + i] << 8;
      level += folded >>> 1 ^ -(folded & 1);
      levels[i] = level;
    }
    const truth = bytes.subarray(2 * count, (2 + planes) * count);
    return { count, levels, truth, prediction: bytes.subarray((2 + planes) * count) };
  }

  // Paths in voxels, as those of stills.py; inside(column, row) is false outside the picture.
  function area(inside, columns, rows) {
    let path = "";
    for (let y = 0; y < rows; y++) {
      path += runs(columns, (x) => inside(x, y), (x, length) => `M${x} ${y}h${length}v1h-${length}z`);
    }
    return path;
  }

  function outline(inside, columns, rows) {
    let path = "";
    for (let y = 0; y <= rows; y++) {
      path += runs(columns, (x) => inside(x, y) !== inside(x, y - 1), (x, length) => `M${x} ${y}h${length}`);
    }
    for (let x = 0; x <= columns; x++) {
      path += runs(rows, (y) => inside(x, y) !== inside(x - 1, y), (y, length) => `M${x} ${y}v${length}`);
    }
    return path;
  }

  function runs(length, holds, drawn) {
    let path = "", first = -1;
    for (let at = 0; at <= length; at++) {
      const here = at < length && holds(at);
      if (here && first < 0) first = at;
      if (!here && first >= 0) { path += drawn(first, at - first); first = -1; }
    }
    return path;
  }

  const number = (value, digits) => value.toFixed(digits).replace("-", "−");

  async function start(figure) {
    const find = (name) => figure.querySelector(name), all = (name) => [...figure.querySelectorAll(name)];
    const about = JSON.parse(find(".about").textContent);
    const voxels = unpack(await inflate(find(".voxels").textContent), about);
    const strides = [1, about.shape[0], about.shape[0] * about.shape[1]];
    const at = [...about.jump]; // the slice of each axis
    const grey = new Uint8Array(4096); // of each level
    const form = find(".live"), stage = find(".stage"), canvas = find("canvas"), overlay = find(".stage svg");
    const slider = find(".slice"), preset = find(".preset"), level = find(".level"), width = find(".width");
    const truth = find("input.truth"), prediction = find("input.prediction");
    const areas = all(".stage .area"), outlines = all(".stage .outline"); // a path an organ
    const digits = about.step < 0.1 ? 3 : about.step < 1 ? 1 : 0;
    let plane;

    const planeName = () => form.elements.plane.value;

    function turn() {
      plane = AXES[planeName()];
      const size = (axis) => about.shape[axis] * about.spacing[axis];
      canvas.width = about.shape[plane.across];
      canvas.height = about.shape[plane.down];
      overlay.setAttribute("viewBox", `0 0 ${canvas.width} ${canvas.height}`);
      stage.style.setProperty("--ratio", size(plane.across) / size(plane.down));
      stage.querySelectorAll("b").forEach((letter, i) => { letter.textContent = plane.edges[i]; });
      slider.max = about.shape[plane.through] - 1;
      go(at[plane.through]);
    }

    function go(slice) {
      at[plane.through] = Math.min(Math.max(Math.round(slice), 0), Number(slider.max));
      slider.value = at[plane.through];
      draw();
      const place = describe();
      find(".place").textContent = place;
      slider.setAttribute("aria-valuetext", place);
    }

    function describe() {
      const axis = plane.through, factor = about.factors[axis], whole = about.whole[axis];
      const first = about.first[axis] + at[axis] * factor + 1, last = Math.min(first + factor - 1, whole);
      const mm = about.positions[axis] + at[axis] * about.spacing[axis];
      const name = first === last ? `Slice ${first}` : `Slices ${first}–${last}`;
      return `${name} of ${whole}, ${"xyz"[axis]} = ${number(mm, 1)} mm`;
    }

    function index(column, row) {
      return (canvas.width - 1 - column) * strides[plane.across] + (canvas.height - 1 - row) * strides[plane.down]
        + at[plane.through] * strides[plane.through];
    }

    function draw() {
      const picture = new ImageData(canvas.width, canvas.height);
      for (let row = 0, i = 0; row < canvas.height; row++) {
        for (let column = 0; column < canvas.width; column++, i += 4) {
          picture.data.fill(grey[voxels.levels[index(column, row)]], i, i + 3);
          picture.data[i + 3] = 255;
        }
      }
      canvas.getContext("2d").putImageData(picture, 0, 0);
      all(".organ").forEach((box, organ) => {
        mark(areas[organ], area, box.checked && prediction.checked, voxels.prediction, organ);
        mark(outlines[organ], outline, box.checked && truth.checked, voxels.truth, organ);
      });
    }

    function mark(path, trace, shown, bits, organ) {
      const { width: columns, height: rows } = canvas, mask = new Uint8Array(columns * rows);
      const offset = (organ >> 3) * voxels.count, bit = organ & 7;
      for (let row = 0, i = 0; shown && row < rows; row++) {
        for (let column = 0; column < columns; column++, i++) mask[i] = bits[offset + index(column, row)] >> bit & 1;
      }
      const inside = (x, y) => x >= 0 && y >= 0 && x < columns && y < rows && mask[y * columns + x] === 1;
      path.setAttribute("d", mask.includes(1) ? trace(inside, columns, rows) : "");
    }

    function setWindow(low, high) {
      for (let i = 0; i < grey.length; i++) {
        const share = (about.low + i * about.step - low) / (high - low);
        grey[i] = Math.round(Math.min(Math.max(share, 0), 1) * 255);
      }
      level.value = (low + high) / 2;
      width.value = high - low;
      for (const input of [level, width]) input.nextElementSibling.value = number(Number(input.value), digits);
      draw();
    }

    function usePreset() {
      const window = about.windows[preset.value];
      if (window) setWindow(window.low, window.high);
    }

    function useOwnWindow() {
      preset.value = "own";
      setWindow(level.value - width.value / 2, Number(level.value) + width.value / 2);
    }

    function limitWindow() {
      const low = Math.min(about.low, ...about.windows.map((window) => window.low));
      const high = Math.max(...about.windows.map((window) => window.high));
      Object.assign(level, { min: low, max: high, step: about.step });
      Object.assign(width, { min: about.step, max: high - low, step: about.step });
    }

    function toggle(...boxes) {
      const on = !boxes.some((box) => box.checked);
      for (const box of boxes) box.checked = on;
      draw();
    }

    function choosePlane(name) {
      form.elements.plane.value = name;
      turn();
    }

    const step = (slices) => go(at[plane.through] + slices);
    const jump = () => go(about.jump[plane.through]);
    const keys = {
      ArrowUp: () => step(1), ArrowRight: () => step(1), ArrowDown: () => step(-1), ArrowLeft: () => step(-1),
      PageUp: () => step(10), PageDown: () => step(-10), Home: () => go(0), End: () => go(slider.max),
      d: jump, o: () => toggle(truth, prediction), t: () => toggle(truth), p: () => toggle(prediction),
      a: () => choosePlane("axial"), c: () => choosePlane("coronal"), s: () => choosePlane("sagittal"),
      w: () => { preset.selectedIndex = (preset.selectedIndex + 1) % about.windows.length; usePreset(); },
    };

    figure.addEventListener("keydown", (event) => {
      const action = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      const own = event.target !== slider && event.target.matches("select, [type=range], [type=radio]");
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target === preset || own && event.key.length > 1) return; // they have these keys themselves
      event.preventDefault();
      action();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    slider.addEventListener("input", () => go(slider.value));
    find(".previous").addEventListener("click", () => step(-1));
    find(".next").addEventListener("click", () => step(1));
    find(".jump").addEventListener("click", jump);
    preset.addEventListener("change", usePreset);
    for (const input of [level, width]) input.addEventListener("input", useOwnWindow);
    for (const box of all("[type=checkbox]")) box.addEventListener("change", draw);
    find(".planes").addEventListener("change", turn);
    stage.addEventListener("wheel", (event) => {
      if (!figure.contains(document.activeElement)) return; // the page scrolls until a picture was clicked
      event.preventDefault();
      step(event.deltaY > 0 ? -1 : 1);
    }, { passive: false });
    stage.addEventListener("pointerdown", (event) => {
      const begin = event.clientX, from = at[plane.through];
      const pixels = Math.max(SWIPE, stage.clientWidth / about.shape[plane.through]);
      const move = (moved) => go(from + (moved.clientX - begin) / pixels);
      const end = () => stage.removeEventListener("pointermove", move);
      stage.setPointerCapture(event.pointerId);
      stage.addEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, end, { once: true });
      event.preventDefault();
      slider.focus({ preventScroll: true });
    });

    figure.classList.add("on");
    form.hidden = false;
    limitWindow();
    turn();
    usePreset();
  }

  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      start(target).catch((error) => {
        target.classList.add("kept");
        console.warn("The pictures stay: this browser cannot open the slices.", error);
      });
    }
  }, { rootMargin: "400px" });
  for (const figure of document.querySelectorAll("figure.viewer")) near.observe(figure);
}
