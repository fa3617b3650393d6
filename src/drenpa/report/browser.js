"use strict";
// Every text of a model, a judge or a user reaches the page through textContent alone.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filters");
  const PER_PAGE = 10;
  const MARKS = [0, 1, 2];
  const store = `drenpa people ${data.key}`;
  let page = 0;
  let mine = {};
  try { mine = JSON.parse(localStorage.getItem(store) || "{}"); } catch { mine = {}; }

  function keep() {
    try { localStorage.setItem(store, JSON.stringify(mine)); } catch { /* kept in this tab alone */ }
    const count = Object.values(mine).filter((one) => Object.keys(one.scores).length).length;
    document.getElementById("scored").textContent = `${count} scored`;
    document.getElementById("export").disabled = !count;
  }

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "class") node.className = value;
      else if (name === "text") node.textContent = value;
      else if (typeof value === "boolean") node[name] = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }

  function options(name, values, chosen) {
    const select = form.elements[name];
    for (const [value, text] of values) {
      select.append(make("option", { value, text, selected: value === chosen }));
    }
  }

  const unique = (values) => [...new Set(values)];
  const same = (values) => values.map((value) => [value, value]);
  options("kind", [["", "all"], ...same(unique(data.items.map((item) => item.kind)))], "");
  options("language", [["", "all"], ...same(unique(data.items.map((item) => item.language)))], "");
  options("model", same(data.models), data.models[0]);
  options("left", same(data.strategies), data.strategies[0]);
  const last = data.strategies[data.strategies.length - 1];
  options("right", [...same(data.strategies), ["*", "all strategies"]], last);

  const chosen = (name) => form.elements[name].value;
  const blind = () => form.elements.blind.checked;

  function answersOf(item, strategy) {
    return item.answers.filter((one) => one.strategy === strategy && one.model === chosen("model"));
  }

  function mean(answers) {
    const known = answers.map((one) => one.percent).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }

  const rightName = () => (chosen("right") === "*" ? last : chosen("right"));

  function change(item) {
    const before = mean(answersOf(item, chosen("left")));
    const after = mean(answersOf(item, rightName()));
    return before === null || after === null ? null : after - before;
  }

  function sides(item) {
    const names = chosen("right") === "*" ? data.strategies : unique([chosen("left"), chosen("right")]);
    return names.flatMap((name) => answersOf(item, name));
  }

  const placeOf = (item, one) => JSON.stringify([item.item, one.model, one.strategy, one.seed, one.sample]);
  const isMine = (item, one) => Object.keys((mine[placeOf(item, one)] || { scores: {} }).scores).length > 0;

  function wanted(item) {
    const shown = sides(item);
    const moved = change(item);
    const text = chosen("find").toLocaleLowerCase();
    const tests = {
      all: () => true,
      gain: () => moved !== null && moved > 0,
      loss: () => moved !== null && moved < 0,
      cut: () => shown.some((one) => one.finish === "length"),
      unscored: () => shown.some((one) => one.unscored),
      mine: () => shown.some((one) => isMine(item, one)),
      open: () => shown.some((one) => !isMine(item, one)),
    };
    return shown.length > 0
      && (!chosen("kind") || item.kind === chosen("kind"))
      && (!chosen("language") || item.language === chosen("language"))
      && tests[chosen("show")]()
      && (!text || [item.question, ...shown.map((one) => one.text)]
        .some((part) => part.toLocaleLowerCase().includes(text)));
  }

  const size = (value) => (value === null ? -1 : Math.abs(value));
  const low = (item) => mean(answersOf(item, rightName())) ?? 1e9;
  const orders = {
    change: (a, b) => size(change(b)) - size(change(a)),
    item: (a, b) => (a.item < b.item ? -1 : 1),
    low: (a, b) => low(a) - low(b),
  };

  // A fixed shuffle for blind reading, so that the order of sides says nothing of who wrote them.
  function lot(text) {
    let hash = 2166136261;
    for (const sign of text) hash = Math.imul(hash ^ sign.codePointAt(0), 16777619);
    return Math.imul(hash ^ (hash >>> 15), 2246822507) >>> 0;
  }

  const percent = (value) => (value === null ? "–" : `${value.toFixed(1)} %`);

  function scoreBox(item, one) {
    const place = placeOf(item, one);
    const entry = () => (mine[place] ||= {
      item: item.item, model: one.model, strategy: one.strategy, seed: one.seed, sample: one.sample,
      scores: {}, note: "",
    });
    const rows = data.dimensions.map((dimension) => {
      const group = `${place} ${dimension}`;
      const marks = MARKS.map((mark) => {
        const input = make("input", { type: "radio", name: group, value: String(mark) });
        input.checked = (mine[place]?.scores || {})[dimension] === mark;
        input.addEventListener("change", () => { entry().scores[dimension] = mark; keep(); });
        return make("label", {}, input, ` ${mark} `);
      });
      const clear = make("button", { type: "button", class: "clear", title: `take ${dimension} back`, text: "×" });
      clear.addEventListener("click", () => {
        if (mine[place]) delete mine[place].scores[dimension];
        for (const input of row.querySelectorAll("input")) input.checked = false;
        keep();
      });
      const row = make("fieldset", {}, make("legend", { text: dimension }), ...marks, clear);
      return row;
    });
    const note = make("input", { type: "text", class: "note", placeholder: "a note", "aria-label": "note" });
    note.value = mine[place]?.note || "";
    note.addEventListener("change", () => { entry().note = note.value; keep(); });
    return make("details", { class: "human", open: isMine(item, one) || blind() },
      make("summary", { text: "your scores" }), ...rows, note);
  }

  function side(item, one, letter) {
    const hide = blind();
    const name = hide ? `answer ${letter}` : [one.strategy,
      data.seeds > 1 ? `seed ${one.seed}` : "", data.samples > 1 ? `sample ${one.sample + 1}` : ""]
      .filter(Boolean).join(", ");
    const right = [hide ? "" : percent(one.percent), one.finish === "length" ? "cut off" : ""];
    const scores = data.dimensions.filter((d) => d in one.scores)
      .map((d) => `${d} ${Number(one.scores[d].toFixed(2))}`).join(" · ");
    const judged = hide ? [] : [
      make("p", { class: "small", text: [scores, one.unscored ? `unscored: ${one.unscored}` : ""].filter(Boolean).join(" · ") }),
      one.thoughts ? make("details", {}, make("summary", { text: data.judges > 1 ? `thoughts of ${one.judge}` : "the judge's thoughts" }),
        make("p", { class: "small thoughts", dir: "auto", text: one.thoughts })) : null,
    ];
    return make("div", { class: "side" },
      make("header", {}, make("b", { text: name }), make("span", { text: right.filter(Boolean).join(" · ") })),
      make("p", { class: "answer", lang: item.language, dir: "auto", text: one.text }),
      ...judged, scoreBox(item, one));
  }

  function article(item) {
    const moved = change(item);
    const told = [item.kind, item.language, item.item, data.sources ? `source ${item.cluster}` : ""];
    if (!blind() && moved !== null && chosen("left") !== rightName()) {
      told.push(`${moved > 0 ? "+" : moved < 0 ? "−" : ""}${Math.abs(moved).toFixed(1)} points`);
    }
    let shown = sides(item);
    if (blind()) shown = [...shown].sort((a, b) => lot(placeOf(item, a)) - lot(placeOf(item, b)));
    return make("article", { class: "example" },
      make("p", { class: "small", text: told.filter(Boolean).join(" · ") }),
      make("p", { class: "question", lang: item.language, dir: "auto", text: item.question }),
      make("div", { class: "sides many" }, ...shown.map((one, place) => side(item, one, String.fromCharCode(65 + place % 26)))),
      item.reference && !blind() ? make("details", {}, make("summary", { text: "reference answer" }),
        make("p", { class: "answer", lang: item.language, dir: "auto", text: item.reference })) : null);
  }

  function draw() {
    const found = data.items.filter(wanted).sort(blind() ? orders.item : orders[chosen("order")]);
    const pages = Math.max(1, Math.ceil(found.length / PER_PAGE));
    page = Math.min(Math.max(page, 0), pages - 1);
    document.getElementById("items").replaceChildren(
      ...found.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map(article));
    document.getElementById("count").textContent = `${found.length} of ${data.items.length} questions`;
    document.getElementById("page").textContent = `${page + 1} / ${pages}`;
    document.getElementById("before").disabled = page === 0;
    document.getElementById("next").disabled = page === pages - 1;
    keep();
  }

  function exported() {
    const judge = document.getElementById("rater").value.trim() || "a person";
    return Object.values(mine).filter((one) => Object.keys(one.scores).length)
      .map((one) => JSON.stringify({ ...one, judge })).join("\n") + "\n";
  }

  // A browser without a font shows every letter of a script as one and the same box.
  function drawn(text) {
    const canvas = make("canvas", { width: "40", height: "40" });
    const pen = canvas.getContext("2d");
    pen.font = `24px ${getComputedStyle(document.body).fontFamily}`;
    pen.fillText(text, 4, 28);
    return pen.getImageData(0, 0, 40, 40).data.join();
  }

  function fontWarnings() {
    const scripts = { bo: ["Tibetan", "ཀ", "ང"], zh: ["Chinese", "水", "山"] };
    const languages = unique(data.items.map((item) => item.language.slice(0, 2)));
    const missing = languages.filter((code) => scripts[code] && drawn(scripts[code][1]) === drawn(scripts[code][2]))
      .map((code) => scripts[code][0]);
    if (!missing.length) return;
    const box = document.getElementById("fonts");
    box.textContent = `This browser has no font for ${missing.join(" and ")} letters and shows them as boxes. `
      + "Install Noto Serif Tibetan or Noto Serif CJK (on Debian: fonts-noto-core, fonts-noto-cjk) and open the page again.";
    box.hidden = false;
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { page = 0; draw(); });
  document.getElementById("before").addEventListener("click", () => { page -= 1; draw(); scrollTo(0, 0); });
  document.getElementById("next").addEventListener("click", () => { page += 1; draw(); scrollTo(0, 0); });
  document.getElementById("export").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([exported()], { type: "application/x-ndjson" }));
    const link = make("a", { href: address, download: "people.jsonl" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  });
  fontWarnings();
  draw();
})();
