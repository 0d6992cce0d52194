// All is readable without this: it opens what a link leads to, filters and sorts.
const all = (query, root = document) => [...root.querySelectorAll(query)];
const make = (name, given, ...children) => {
  const node = Object.assign(document.createElement(name), given);
  node.append(...children);
  return node;
};
const words = (node) => ` ${node?.textContent.toLowerCase() ?? ""}`;

// Browsers differ in opening what is around the target of a link.
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let node = target; node; node = node.parentElement) {
    if (node.tagName === "DETAILS") node.open = true;
    node.hidden = false;
  }
  target?.scrollIntoView();
}

// What scrolls is reached by keyboard.
function reach() {
  for (const box of all(".scroll"))
    if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
}

// Filter by words and by verdict.
const verdicts = ["failed", "errored", "inconclusive", "passed", "expected", "skipped"];
const verdictOf = (node) => verdicts.find((each) => node.classList.contains(each))
  ?? verdicts.find((each) => node.querySelector(`b.${each}`));
const items = all(".trial, p.above, .filtered tbody tr").map((node) => ({
  node,
  verdict: verdictOf(node),
  text: words(node.querySelector("summary") || node) + words(node.closest(".subjects")?.firstChild),
}));
const grids = all(".grid");
const cells = grids.flatMap((table) =>
  all("tbody td", table).filter((box) => box.firstChild).map((box) => {
    const row = box.parentElement, head = table.rows[0].cells[box.cellIndex];
    const node = box.firstChild;
    return { node, row, head, table, verdict: verdictOf(node), text: words(row.cells[0]) + words(head) };
  }));

function filter() {
  const wanted = input.value.toLowerCase().split(/\s+/);
  const off = boxes.filter((box) => !box.checked).map((box) => box.name);
  for (const each of [...items, ...cells])
    each.node.hidden = off.includes(each.verdict) || !wanted.every((word) => each.text.includes(word));
  for (const box of all(".subjects")) box.hidden = all(".trial, .above", box).every((n) => n.hidden);
  const kept = cells.filter((each) => !each.node.hidden);
  const left = new Set(kept.flatMap((each) => [each.row, each.head, each.table]));
  for (const table of grids) {
    table.parentElement.hidden = !left.has(table);
    const gone = [...table.rows[0].cells].map((head, k) => k > 0 && !left.has(head));
    for (const row of table.rows) {
      row.hidden = row.rowIndex > 0 && !left.has(row);
      [...row.cells].forEach((box, k) => (box.hidden = gone[k]));
    }
  }
  count.value = kept.length < cells.length ? `${kept.length} of ${cells.length} checks` : "";
}

const input = make("input", { type: "search", placeholder: "subject or check" });
const count = make("output", {});
const boxes = verdicts
  .filter((name) => cells.some((each) => each.verdict === name))
  .map((name) => make("input", { type: "checkbox", checked: true, name }));
if (cells.length > 1) {
  const form = make("form", { className: "filter", role: "search", ariaLabel: "Filter" },
    make("label", {}, "Filter ", input),
    ...boxes.map((box) => make("label", {}, box, box.name === "skipped" ? " not run" : ` ${box.name}`)),
    count);
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector("nav").after(form);
}

// Sort by a click on a column's head.
const units = { ns: 1e-9, µs: 1e-6, ms: 1e-3, min: 60, kB: 1e3, MB: 1e6, GB: 1e9 };
const raised = "⁰¹²³⁴⁵⁶⁷⁸⁹";
function number(text) {
  const plain = text.replace(/,/g, "").replace(/−/g, "-").replace("∞", "Infinity")
    .replace(/10(⁻?)([⁰¹²³⁴-⁹]+)/, (_, minus, digits) =>
      `1e${minus && "-"}${[...digits].map((each) => raised.indexOf(each)).join("")}`)
    .replace("·1e", "e").replace(/^[×<]/, "");
  return parseFloat(plain) * (units[plain.split(" ")[1]] ?? 1);
}
function sort(head) {
  const body = head.closest("table").tBodies[0];
  const sign = head.ariaSort === "ascending" ? -1 : 1;
  for (const other of head.parentElement.cells) other.ariaSort = null;
  head.ariaSort = sign > 0 ? "ascending" : "descending";
  const key = (row) => row.cells[head.cellIndex]?.textContent.trim() ?? "";
  const order = (a, b) => {
    const [x, y] = [number(a), number(b)];
    return isNaN(x) || isNaN(y) ? isNaN(x) - isNaN(y) || a.localeCompare(b) : x < y ? -1 : +(x > y);
  };
  body.append(...[...body.rows].sort((a, b) => sign * order(key(a), key(b))));
}
for (const head of all("table:not(.grid, .evidence) thead th")) {
  if (head.closest("table").tBodies[0].rows.length < 3) continue;
  const button = make("button", { type: "button", title: "Sort" }, ...head.childNodes);
  button.addEventListener("click", () => sort(head));
  head.append(button);
}

addEventListener("hashchange", reveal);
addEventListener("toggle", reach, true);
addEventListener("resize", reach);
reveal();
reach();
