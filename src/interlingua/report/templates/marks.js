// Keeps the marks of all pages of one title in the browser, and writes them as a table of id_a, id_b, right; what is
// unsure is kept, but isn't in the table.
const pairs = [...document.querySelectorAll(".pair")];
const link = document.querySelector(".bar a");
const shown = document.querySelector(".bar output");
const kept = "interlingua-marks " + document.title;
const flat = (text) => text.split(/\s+/).filter(Boolean).join(" ");
const name = (pair) => flat(pair.dataset.a) + "\t" + flat(pair.dataset.b);

function held() {
  let table = "";
  try {
    table = localStorage.getItem(kept) || "";
  } catch {
    // a browser that keeps nothing: the file is all there is
  }
  const rows = table.split("\n").slice(1).filter(Boolean);
  return new Map(rows.map((row) => [row.slice(0, row.lastIndexOf("\t")), row.slice(row.lastIndexOf("\t") + 1)]));
}

const marks = held();

function update() {
  const here = pairs.filter((pair) => marks.has(name(pair))).length;
  const others = marks.size - here;
  shown.textContent = `${here} of ${pairs.length} marked.` + (others ? ` ${others} on other pages.` : "");
  const table = (rows) => ["id_a\tid_b\tright", ...rows.map((row) => row.join("\t")), ""].join("\n");
  const sure = table([...marks].filter(([, value]) => value !== "unsure"));
  link.href = "data:text/tab-separated-values;charset=utf-8," + encodeURIComponent(sure);
  return table([...marks]);
}

for (const pair of pairs) {
  for (const input of pair.querySelectorAll("input")) {
    input.checked = input.value === marks.get(name(pair));
    input.addEventListener("change", () => {
      for (const [other, value] of held()) if (!marks.has(other)) marks.set(other, value); // a page open beside this one
      marks.set(name(pair), input.value);
      try {
        localStorage.setItem(kept, update());
      } catch {
        update();
      }
    });
  }
}
update();
