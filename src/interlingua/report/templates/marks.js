// Keeps the marks in the browser, and writes them as a table of id_a, id_b, right.
const pairs = [...document.querySelectorAll(".pair")];
const link = document.querySelector(".bar a");
const shown = document.querySelector(".bar output");
const kept = "interlingua-marks " + document.title;
const flat = (text) => text.split(/\s+/).filter(Boolean).join(" ");
const name = (pair) => flat(pair.dataset.a) + "\t" + flat(pair.dataset.b);

function update() {
  const rows = [];
  for (const pair of pairs) {
    const chosen = pair.querySelector("input:checked");
    if (chosen) rows.push(name(pair) + "\t" + chosen.value);
  }
  shown.textContent = `${rows.length} of ${pairs.length} marked.`;
  const table = ["id_a\tid_b\tright", ...rows, ""].join("\n");
  link.href = "data:text/tab-separated-values;charset=utf-8," + encodeURIComponent(table);
  try {
    localStorage.setItem(kept, table);
  } catch {
    // a browser that keeps nothing: the file is all there is
  }
}

let before = "";
try {
  before = localStorage.getItem(kept) || "";
} catch {
  // likewise
}
const marks = new Map(before.split("\n").slice(1).map((row) => [row.slice(0, row.lastIndexOf("\t")), row.slice(row.lastIndexOf("\t") + 1)]));
for (const pair of pairs) {
  const value = marks.get(name(pair));
  for (const input of pair.querySelectorAll("input")) {
    input.checked = input.value === value;
    input.addEventListener("change", update);
  }
}
update();
