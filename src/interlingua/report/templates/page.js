// Search and filters above a table's rows. Without JavaScript there are none, and all rows stay.
for (const box of document.querySelectorAll(".searchable")) {
  const rows = [...box.querySelectorAll("tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const controls = document.createElement("form");
  controls.className = "controls";
  controls.addEventListener("submit", (event) => event.preventDefault());
  const shown = document.createElement("output");
  const chosen = [];

  function label(text, control) {
    const made = document.createElement("label");
    made.append(text, control);
    control.addEventListener("input", apply);
    controls.append(made);
    return control;
  }

  function apply() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, i) => {
      const fits = (players[i] || !playable.checked)
        && words.every((word) => texts[i].includes(word))
        && chosen.every(([select, column]) => !select.value || row.cells[column].textContent === select.value);
      row.hidden = !fits;
      count += fits;
    });
    shown.textContent = `${count} of ${rows.length} rows`;
  }

  const search = label("Search ", document.createElement("input"));
  search.type = "search";
  for (const head of box.querySelectorAll("th[data-filter]")) {
    const values = new Set(rows.map((row) => row.cells[head.cellIndex].textContent));
    if (values.size < 2) continue;
    const select = label(`${head.textContent} `, document.createElement("select"));
    select.add(new Option("all", ""));
    for (const value of values) select.add(new Option(value, value));
    chosen.push([select, head.cellIndex]);
  }
  const players = rows.map((row) => row.querySelector("audio") !== null);
  const playable = document.createElement("input");
  playable.type = "checkbox";
  if (players.includes(true)) label("with recordings ", playable);
  controls.append(shown);
  box.before(controls);
  apply();
}
