/* The order of what a search finds; it takes the place of Sphinx's own, in which each page that has a
   word is as good as any other, and one page may fill the list.

   A page is scored by where it has each of the words: as a main entry of the index, which is what its
   author says that it is about, in its title, in the name of what it describes, in the title of a
   section, or in its text. Rare words count for more. Each page is shown once, with the place in it that
   fits best. */
"use strict";

const WEIGHTS = { main: 100, title: 70, name: 125, object: 60, section: 40, entry: 35, member: 20, text: 8 };
/* What a theme can show each kind by. */
const KINDS = { main: "index", title: "title", name: "object", object: "object", section: "title", entry: "index", member: "object", text: "text" };
/* Pages by the beginnings of their names: reports of measurements, examples and the list of changes have
   all words, and few people look for them. */
const PAGES = [
  ["changelog", 0.3],
  ["results/", 0.6],
  ["auto_examples/", 0.7],
  ["api/generated/", 0.8],
  ["api/", 0.7],
];
const MAX_RESULTS = 30;
const EMPTY_WORDS = new Set(
  "a an am can do does did get has have how i me my should there use using want was we what when where why you your".split(" "),
);
const stemmer = new Stemmer();
const stems = new Map();
let labels = null;
/* Words of the labels as they are written, which have more letters than their stems. */
const written = new Map();
/* Labels of several words, run together: "heatmap" for "heat map". */
const runTogether = new Map();

function stem(word) {
  if (!stems.has(word)) stems.set(word, stemmer.stemWord(word));
  return stems.get(word);
}

const wordsOf = (text) => splitQuery(text.toLowerCase()).map(stem);

/* The words of a text, or of a query, that say something. */
function fullWords(text) {
  const all = [...new Set(splitQuery(text.toLowerCase()))];
  const full = all.filter((word) => !stopwords.has(word) && !EMPTY_WORDS.has(word));
  return full.length ? full : all;
}

const listOf = (value) => (Array.isArray(value) ? value : [value]);
const splitName = (name) => name.replace(/([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])/g, "$1$3 $2$4");

function factorOf(docname) {
  const found = PAGES.find(([beginning]) => docname.startsWith(beginning));
  return found ? found[1] : 1;
}

/* All that a page is found by, but for its text. */
function readLabels(index) {
  const read = [];
  const add = (doc, kind, text, anchor, name) => {
    const all = splitQuery(text.toLowerCase());
    const full = fullWords(text);
    full.forEach((word) => written.set(word, stem(word)));
    if (all.length > 1) runTogether.set(all.join(""), all);
    read.push({ doc, kind, anchor, name, phrase: all.map(stem).join(" "), words: full.map(stem) });
  };
  for (const [entry, places] of Object.entries(index.indexentries))
    for (const [doc, id, isMain] of places)
      // Those that objects make have the kind of the object in brackets.
      if (isMain || !entry.includes("("))
        add(doc, isMain ? "main" : "entry", entry, id ? `#${id}` : "", null);
  for (const [title, places] of Object.entries(index.alltitles))
    for (const [doc, id] of places) {
      const isWhole = index.titles[doc] === title;
      add(doc, isWhole ? "title" : "section", title, isWhole || !id ? "" : `#${id}`, title);
    }
  for (const [prefix, objects] of Object.entries(index.objects))
    for (const [doc, type, , id, name] of objects) {
      const [domain, kind] = index.objnames[type];
      if (domain !== "py") continue;
      const full = prefix ? `${prefix}.${name}` : name;
      const anchor = `#${id === "" ? full : id === "-" ? `${kind}-${full}` : id}`;
      const isOwn = index.docnames[doc].endsWith(`/${full}`);
      const object = { full, descr: index.objnames[type][2] };
      add(doc, isOwn ? "name" : "member", name, anchor, object);
      if (isOwn) add(doc, "object", splitName(name), anchor, object);
    }
  return read;
}

/* How many letters must be changed, left out, added or swapped with the next one. */
function distance(a, b) {
  let [before, row] = [[], [...Array(b.length + 1).keys()]];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] !== b[j - 1]));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        next[j] = Math.min(next[j], before[j - 2] + 1);
    }
    [before, row] = [row, next];
  }
  return row[b.length];
}

/* Words of the index for a word of the reader, which may be two in one: itself, or else those that begin
   with it, or else those that are spelled most alike. */
function spellings(word, before, after, vocabulary) {
  const stemmed = stem(word);
  const pairs = [[before, word], [word, after]].filter((pair) => pair.every(Boolean));
  const joined = pairs.flatMap((pair) => [pair.join(""), pair.join("_")]);
  const bare = word.replace(/^_+|_+$/g, "");
  const exact = [word, bare, ...joined].map(stem).filter((one) => vocabulary.has(one));
  if (exact.length) return new Map(exact.map((one) => [one, 1]));
  const begun = [...vocabulary].filter((one) => one.startsWith(stemmed));
  const found = stemmed.length > 2 && begun.length ? begun : spelledAlike(word, vocabulary);
  return new Map(found.map((one) => [one, 0.6]));
}

/* The words that differ from one in the fewest letters, if these are few. */
function spelledAlike(word, vocabulary) {
  if (word.length < 5) return [];
  let most = word.length < 7 ? 1 : 2;
  let nearest = [];
  for (const [one, stemmed] of [...written, ...[...vocabulary].map((term) => [term, term])]) {
    if (Math.abs(one.length - word.length) > most) continue;
    const letters = distance(one, word);
    if (letters < most) [most, nearest] = [letters, []];
    if (letters <= most) nearest.push(stemmed);
  }
  return nearest;
}

function wordsThatAreKnown(index) {
  const tables = [...Object.keys(index.terms), ...Object.keys(index.titleterms)];
  return new Set([...tables, ...labels.flatMap((label) => label.words)]);
}

function readQuery(query, vocabulary) {
  const words = fullWords(query).flatMap((word) =>
    vocabulary.has(stem(word)) ? [word] : runTogether.get(word) ?? word.split("_").filter(Boolean),
  );
  return words.map((word, i) => spellings(word, words[i - 1], words[i + 1], vocabulary));
}

/* What is found for one word: the best evidence on each page. */
function evidenceOf(spelled, index, asked) {
  const best = new Map();
  const note = (doc, value, label) => {
    if (value > (best.get(doc)?.value ?? 0)) best.set(doc, { value, label });
  };
  for (const [word, likeness] of spelled)
    for (const table of [index.terms, index.titleterms])
      if (Object.hasOwn(table, word))
        for (const doc of listOf(table[word]))
          note(doc, likeness * WEIGHTS.text * factorOf(index.docnames[doc]), null);
  for (const label of labels) {
    const likeness = Math.max(0, ...label.words.map((word) => spelled.get(word) ?? 0));
    if (!likeness) continue;
    const share = label.words.filter((word) => asked.has(word)).length / label.words.length;
    const factor = label.kind === "main" ? share : Math.sqrt(share) * factorOf(index.docnames[label.doc]);
    note(label.doc, likeness * WEIGHTS[label.kind] * factor, label);
  }
  return best;
}

function scorePages(query, index) {
  const words = readQuery(query, wordsThatAreKnown(index));
  const asked = new Set(words.flatMap((spelled) => [...spelled.keys()]));
  const phrase = wordsOf(query).join(" ");
  const pages = new Map();
  const found = words.map((spelled) => evidenceOf(spelled, index, asked));
  const rarity = found.map((best) => Math.log(1 + index.docnames.length / (best.size || 1)));
  const total = rarity.reduce((a, b) => a + b, 0);
  found.forEach((best, i) => {
    for (const [doc, { value, label }] of best) {
      const page = pages.get(doc) ?? { doc, score: 0, share: 0, value: 0, label: null };
      page.score += (value * rarity[i]) / total;
      page.share += rarity[i] / total;
      if (label && value * rarity[i] > page.value) Object.assign(page, { value: value * rarity[i], label });
      pages.set(doc, page);
    }
  });
  for (const page of pages.values()) page.score *= page.share;
  for (const label of labels)
    if (pages.has(label.doc) && label.phrase === phrase) {
      const page = pages.get(label.doc);
      page.score += 0.3 * WEIGHTS[label.kind] * factorOf(index.docnames[label.doc]);
    }
  return [...pages.values()];
}

function asResult({ doc, score, label }, index) {
  const title = index.titles[doc];
  const name = label?.name;
  const anchor = label?.anchor ?? "";
  const kind = KINDS[label?.kind ?? "text"];
  const shown = kind === "object" ? name.full : label?.kind === "section" ? `${title} > ${name}` : title;
  const descr = kind === "object" ? name.descr : null;
  return [index.docnames[doc], shown, anchor, descr, score, index.filenames[doc], kind];
}

Search._performSearch = (query) => {
  const index = Search._index;
  labels ??= readLabels(index);
  _removeChildren(document.getElementById("search-progress"));
  const pages = scorePages(query, index);
  const results = pages.map((page) => asResult(page, index));
  // The last one is shown first.
  return results.sort(_orderResultsByScoreThenName).slice(-MAX_RESULTS);
};

/* The text of which a result shows a part: of a section, or of a page without its title and the path to it.
   Entries of the index are at a paragraph, or in a section, that is about them. Terms of the glossary say
   nothing: for them, the text of the page. */
Search.htmlToText = (html, anchor) => {
  const page = new DOMParser().parseFromString(html, "text/html");
  page.querySelectorAll(".headerlink, script, style, h1").forEach((element) => element.remove());
  const target = anchor && !anchor.startsWith("#term-") ? page.getElementById(anchor.slice(1)) : null;
  const place = target?.textContent ? target : target?.closest("section");
  return (place ?? page.querySelector("article.bd-article"))?.textContent.replace(/\s+/g, " ") ?? "";
};
