// Sorts tables by a column and finds rows by text. The page reads without it; it fetches nothing and keeps nothing.
(() => {
  "use strict";
  const MOST_ROWS_IN_SIGHT = 10;
  document.documentElement.classList.add("js");

  const column = (row, i) => row.cells[i];
  const compare = (a, b) => {
    const [x, y] = [a.dataset.sort, b.dataset.sort];
    if (x === undefined || y === undefined) return a.textContent.localeCompare(b.textContent, "en", { numeric: true });
    const [m, n] = [Number(x), Number(y)];
    if (Number.isNaN(m) || Number.isNaN(n)) return Number.isNaN(m) - Number.isNaN(n);
    return m - n;
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.title = "Sort by this column";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const sign = down ? -1 : 1;
        body.append(...[...body.rows].sort((a, b) => sign * compare(column(a, i), column(b, i))));
      });
    });
  };

  const searchable = (table) => {
    const rows = [...table.tBodies[0].rows];
    const box = document.createElement("div");
    const label = document.createElement("label");
    const input = document.createElement("input");
    const shown = document.createElement("output");
    box.className = "find";
    input.type = "search";
    input.autocomplete = "off";
    input.spellcheck = false;
    label.append("Find in these rows ", input);
    box.append(label, shown);
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let found = 0;
      for (const row of rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        found += row.hidden ? 0 : 1;
      }
      shown.textContent = wanted === "" ? "" : `${found} of ${rows.length} rows`;
    });
    const scroll = table.closest(".scroll");
    const before = scroll.previousElementSibling;
    (before !== null && before.classList.contains("hint") ? before : scroll).before(box);
  };

  for (const table of document.querySelectorAll("table.data")) {
    if (table.tBodies[0].rows.length > 1) sortable(table);
    if (table.tBodies[0].rows.length > MOST_ROWS_IN_SIGHT) searchable(table);
  }

  const hint = () => {
    for (const each of document.querySelectorAll(".hint")) {
      const scroll = each.nextElementSibling;
      each.hidden = scroll.scrollWidth <= scroll.clientWidth;
    }
  };
  addEventListener("resize", hint);
  hint();
})();
