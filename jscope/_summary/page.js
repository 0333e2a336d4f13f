"use strict";
(() => {
  const tree = document.getElementById("tree");
  const tools = document.getElementById("tools");
  const search = document.getElementById("search");
  const sort = document.getElementById("sort");
  const found = document.getElementById("found");
  const items = [...tree.querySelectorAll("[data-name]")];
  const scopes = items.filter((item) => item.classList.contains("scope"));
  let before = null; // which scopes were open before the search

  const around = function* (item) {
    for (let up = item.parentElement; up && up !== tree; up = up.parentElement) yield up;
  };

  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (words.length && !before) before = new Set(scopes.filter((scope) => scope.open));
    if (!words.length && before) {
      scopes.forEach((scope) => (scope.open = before.has(scope)));
      before = null;
    }
    const hits = items.filter((item) => words.every((word) => item.dataset.text.includes(word)));
    const shown = new Set(hits);
    hits.forEach((hit) => { for (const up of around(hit)) shown.add(up); });
    items.forEach((item) => item.classList.toggle("away", !shown.has(item)));
    if (words.length) scopes.forEach((scope) => (scope.open = shown.has(scope)));
    found.textContent = words.length ? `${hits.length} found` : "";
  };

  const order = () => {
    const key = sort.value;
    const value = (item) => Number(item.dataset[key]) || 0;
    const compare = (a, b) =>
      key === "name" ? a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true })
        : key === "made" ? value(a) - value(b) : value(b) - value(a);
    for (const parent of [tree, ...scopes]) {
      const inside = [...parent.children].filter((child) => child.dataset.name !== undefined);
      inside.sort(compare).forEach((child) => parent.append(child));
    }
  };

  const reveal = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    search.value = "";
    find();
    target.open = true;
    for (const up of around(target)) up.open = true;
    target.scrollIntoView();
  };

  search.addEventListener("input", find);
  sort.addEventListener("change", order);
  for (const [id, open] of [["fold", false], ["unfold", true]])
    document.getElementById(id).addEventListener("click", () => scopes.forEach((scope) => (scope.open = open)));
  window.addEventListener("hashchange", reveal);
  tools.hidden = false;
  reveal();
})();
