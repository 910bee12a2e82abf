// The texts of a record, and what in a summary comes from where in the document.

const viewer = byId('viewer');
const source = byId('source');

/** The record that is open, its texts, and the text whose sources are marked. */
const open = { row: null, texts: null, marked: null };
/** The parts of the document: start, end, and the element of each. */
let parts = [];

/** The stretches between all edges inside of a text. */
function stretches(length, edges) {
  const sorted = [...new Set([0, length, ...edges])].filter((edge) => edge >= 0 && edge <= length).sort((a, b) => a - b);
  return sorted.slice(1).map((end, index) => [sorted[index], end]);
}

const passagesOf = (sentence) => [...sentence.passages, ...(sentence.best_overlap ? [sentence.best_overlap] : [])];

/** A part of a text: a link to its counterpart if it is in a copied range, and more than the space between two sentences. */
function part(text, range, href) {
  if (range < 0 || text.trim() === '') return element('span', {}, text);
  const link = element('a', { className: 'copied', href }, text);
  link.dataset.copied = range;
  return link;
}

/** A summary or reference as a card. */
function card(text, name, facts) {
  const { copied, sentences } = text;
  const edges = [...copied.flatMap(([start, end]) => [start, end]), ...sentences.flatMap(({ start, end }) => [start, end])];
  const content = element('p', { className: 'content' });
  let holder = null;
  for (const [start, end] of stretches(text.text.length, edges)) {
    const inside = sentences.findIndex((sentence) => sentence.start <= start && end <= sentence.end);
    if (inside >= 0 && sentences[inside].start === start) {
      const label = `Passages behind sentence ${inside + 1}`;
      const button = element('button', { type: 'button', className: 'cite', ariaLabel: label }, String(inside + 1));
      holder = element('span', { className: 'sentence' }, button);
      holder.dataset.sentence = inside;
      content.append(holder);
    }
    const range = copied.findIndex(([from, to]) => from <= start && end <= to);
    (inside >= 0 ? holder : content).append(part(text.text.slice(start, end), range, '#source'));
  }
  const node = element('article', { className: 'card' }, element('h4', {}, name), element('p', { className: 'note' }, facts), content);
  node.text = text;
  return node;
}

const wordsOf = (text) => text.split(/\s+/).filter(Boolean).length;

function cards(row, texts) {
  const { references, systems } = texts;
  const reference = (text, index) =>
    card(text, references.length > 1 ? `Reference ${index + 1}` : 'Reference', `${wordsOf(text.text)} words`);
  const system = (text, index) => {
    const scores = overview.metrics.map((metric, at) => `${metric} ${hundredths(f1(row, index, at))}`);
    const facts = [...scores, `${rows[row][3][index]} words`, ...(text.is_cut ? ['cut at the length limit'] : [])];
    return card(text, overview.systems[index], facts.join(' \u00b7 '));
  };
  return [...references.map(reference), ...systems.map(system)];
}

/** Shows the document with the sources of one text, a card's, as links back. */
function mark(text) {
  const { document: whole, starts } = open.texts;
  const ranges = text.sentences.flatMap(passagesOf).map(({ start, end }) => [start, end]);
  const edges = [...text.copied.flatMap(([, , from, to]) => [from, to]), ...ranges.flat(), ...starts];
  let holder = null;
  const documents = [];
  parts = [];
  for (const [start, end] of stretches(whole.length, edges)) {
    if (holder === null || starts.includes(start)) {
      holder = element('p', { className: 'content' });
      if (starts.length > 1) documents.push(element('h4', {}, `Document ${documents.length / 2 + 1} of ${starts.length}`));
      documents.push(holder);
    }
    const range = text.copied.findIndex(([, , from, to]) => from <= start && end <= to);
    const node = part(whole.slice(start, end), range, '#summaries');
    parts.push({ start, end, node });
    holder.append(node);
  }
  byId('document').replaceChildren(...(parts.length > 0 ? documents : [element('p', {}, 'The document is not known.')]));
  open.marked = text;
  for (const node of byId('summaries').children) node.classList.toggle('marked', node.text === text);
}

const within = (start, end) => parts.filter((part) => start <= part.start && part.end <= end).map((part) => part.node);

function scrollTo(node) {
  if (node) source.scrollTop = node.offsetTop - source.clientHeight / 3;
}

/** Marks what a part of a summary is copied from, and the passages that its sentence rests on. */
function point(target) {
  const link = target.closest('.copied');
  const sentence = target.closest('.sentence');
  if (!link && !sentence) return null;
  const { text } = target.closest('.card');
  if (text !== open.marked) mark(text);
  clear();
  const passages = sentence ? cite(text.sentences[sentence.dataset.sentence], Number(sentence.dataset.sentence)) : [];
  const copied = link ? pair(link.dataset.copied) : [];
  const first = copied[0] ?? passages[0];
  scrollTo(first);
  return first;
}

function clear() {
  for (const node of viewer.querySelectorAll('.current, .cited, .overlap')) {
    node.classList.remove('current', 'cited', 'overlap');
    delete node.dataset.label;
  }
  byId('rests').replaceChildren();
}

/** Marks a copied part in the summary and in the document, and gives the elements there. */
function pair(index) {
  const [, , from, to] = open.marked.copied[index];
  const summary = viewer.querySelectorAll(`.card.marked [data-copied="${index}"]`);
  const nodes = within(from, to);
  for (const node of [...summary, ...nodes]) node.classList.add('current');
  return nodes;
}

/** Marks the passages of a sentence, and gives the first element of the first of them. */
function cite(sentence, index) {
  const number = (value) => (value ?? null) === null ? '' : value.toFixed(2);
  const buttons = passagesOf(sentence).map((passage) => {
    const isOverlap = passage === sentence.best_overlap;
    const nodes = within(passage.start, passage.end);
    const label = isOverlap ? `most words in common ${number(passage.overlap)}` : `weight ${number(passage.weight)}`;
    for (const node of nodes) {
      node.classList.add(isOverlap ? 'overlap' : 'cited');
      node.style.setProperty('--weight', Math.min(1, Math.max(0, passage.weight ?? 0)));
    }
    if (nodes[0]) nodes[0].dataset.label = nodes[0].dataset.label ? `${nodes[0].dataset.label}, ${label}` : label;
    return [element('button', { type: 'button', onclick: () => scrollTo(nodes[0]) }, label), nodes[0]];
  });
  const rests = buttons.length > 0 ? `Sentence ${index + 1} rests on: ` : `Sentence ${index + 1} has no passages.`;
  byId('rests').replaceChildren(rests, ...buttons.map(([button]) => button));
  return buttons.map(([, node]) => node).filter(Boolean);
}

/** Shows the texts of a record. */
async function show(row) {
  open.row = row;
  byId('viewer-title').textContent = rows[row][0] || '(no name)';
  byId('viewer-status').textContent = 'Unpacking\u2026';
  byId('summaries').replaceChildren();
  byId('document').replaceChildren();
  if (!viewer.open) viewer.showModal();
  const at = listed.indexOf(row);
  byId('previous').disabled = beside(at, -1) === undefined;
  byId('next').disabled = beside(at, 1) === undefined;
  byId('viewer-title').focus();
  try {
    const texts = await unpack(row);
    if (open.row === row) fill(row, texts);
  } catch (error) {
    byId('viewer-status').textContent = `The texts cannot be unpacked: ${error.message}`;
  }
}

function fill(row, texts) {
  open.texts = texts;
  byId('viewer-status').textContent = '';
  byId('rests').replaceChildren();
  byId('summaries').replaceChildren(...cards(row, texts));
  mark(texts.systems[view.system] ?? texts.references[0]);
  for (const pane of viewer.querySelectorAll('.pane')) pane.scrollTop = 0;
}

/** The next record in the order of the table, before or after a place, that has its texts. */
function beside(place, step) {
  for (let at = place + step; at >= 0 && at < listed.length; at += step) {
    if (listed[at] < openable) return listed[at];
  }
  return undefined;
}

function go(step) {
  const row = beside(listed.indexOf(open.row), step);
  if (row !== undefined) location.replace(`#record-${row}`);
}

/** Shows the record that the address names. */
function follow() {
  const row = /^#record-(\d+)$/.exec(location.hash)?.[1];
  if (row !== undefined && row < openable) show(Number(row));
  else if (viewer.open) viewer.close();
}

for (const kind of ['pointerover', 'focusin']) byId('summaries').addEventListener(kind, (event) => point(event.target));
byId('summaries').addEventListener('click', (event) => {
  const first = point(event.target);
  if (event.target.closest('a')) event.preventDefault();
  if (first) first.focus();
});
byId('document').addEventListener('click', (event) => {
  const link = event.target.closest('a');
  if (!link) return;
  event.preventDefault();
  clear();
  pair(link.dataset.copied);
  viewer.querySelector(`.card.marked [data-copied="${link.dataset.copied}"]`).focus();
});
byId('previous').onclick = () => go(-1);
byId('next').onclick = () => go(1);
byId('close').onclick = () => viewer.close();
viewer.addEventListener('close', () => history.replaceState(null, '', '#records'));
viewer.addEventListener('keydown', (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === 'ArrowLeft') go(-1);
  if (event.key === 'ArrowRight') go(1);
});
addEventListener('hashchange', follow);
follow();
