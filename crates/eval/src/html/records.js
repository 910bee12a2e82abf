// The table of records: chosen system and metric, filter, order and pages.

const PAGE_ROWS = 100;
const hasSystems = overview.systems.length > 0;
const several = overview.systems.length > 1;
const hasDocuments = rows.some((row) => row[1] !== null);

const view = { metric: overview.metrics.length - 1, system: 0, other: several ? 1 : 0, filter: '', page: 0 };
/** Which column the rows are ordered by, and whether downwards; the order of the references without one. */
const order = { column: null, descending: false };
/** The rows that pass the filter, in order. */
let listed = [];

/** A column: its name and the value of a row; `text` shows a value. */
function columns() {
  const score = (system) => (row) => f1(row, system, view.metric);
  const difference = (row) => f1(row, view.system, view.metric) - f1(row, view.other, view.metric);
  const signed = (value) => (value > 0 ? '+' : '') + hundredths(value);
  const words = (name, value) => ({ name, value, text: (count) => (count === null ? '-' : Math.round(count).toString()) });
  return [
    { name: 'record', value: (row) => rows[row][0], text: (id) => id },
    ...(hasSystems ? [{ name: overview.systems[view.system], value: score(view.system), text: hundredths }] : []),
    ...(several ? [
      { name: overview.systems[view.other], value: score(view.other), text: hundredths },
      { name: 'difference', value: difference, text: signed },
    ] : []),
    ...(hasDocuments ? [words('document words', (row) => rows[row][1])] : []),
    words('reference words', (row) => rows[row][2]),
    ...(hasSystems ? [words('summary words', (row) => rows[row][3][view.system])] : []),
  ];
}

const naturally = new Intl.Collator(undefined, { numeric: true });
const compare = (one, other) => (typeof one === 'string' ? naturally.compare(one, other) : one - other);

/** Filters and orders the rows anew. */
function list() {
  const wanted = view.filter.toLowerCase();
  listed = [...rows.keys()].filter((row) => rows[row][0].toLowerCase().includes(wanted));
  const column = columns()[order.column];
  if (column) {
    const values = new Map(listed.map((row) => [row, column.value(row)]));
    const sign = order.descending ? -1 : 1;
    listed.sort((one, other) => sign * compare(values.get(one), values.get(other)) || one - other);
  }
  view.page = 0;
  showPage();
}

const head = element('tr', {});
const body = element('tbody', {});

function showHeader() {
  head.replaceChildren(...columns().map((column, index) => {
    const button = element('button', { type: 'button', onclick: () => sortBy(index) }, column.name);
    return element('th', { scope: 'col', className: index === 0 ? 'text' : '' }, button);
  }));
  showOrder();
}

function showOrder() {
  const direction = order.descending ? 'descending' : 'ascending';
  [...head.children].forEach((cell, index) => {
    cell.setAttribute('aria-sort', index === order.column ? direction : 'none');
  });
}

/** Upwards at first, then downwards, then the order of the references. */
function sortBy(column) {
  const again = order.column === column;
  order.column = again && order.descending ? null : column;
  order.descending = again && !order.descending;
  showOrder();
  list();
}

function showPage() {
  const shown = columns();
  const first = view.page * PAGE_ROWS;
  const onPage = listed.slice(first, first + PAGE_ROWS);
  body.replaceChildren(...onPage.map((row) => element('tr', {}, ...shown.map((column, index) => {
    const text = column.text(column.value(row));
    if (index > 0) return element('td', {}, text);
    const name = row < openable ? element('a', { href: `#record-${row}` }, text || '(no name)') : text;
    return element('th', { scope: 'row', className: 'text' }, name);
  }))));
  const last = first + onPage.length;
  const range = listed.length === 0 ? 'No records' : `${first + 1} to ${last} of ${listed.length} records`;
  byId('range').textContent = range;
  byId('page-before').disabled = view.page === 0;
  byId('page-after').disabled = last >= listed.length;
}

function turn(pages) {
  view.page += pages;
  showPage();
}

function choice(label, names, key) {
  const options = names.map((name, index) => element('option', { value: index, selected: index === view[key] }, name));
  const onchange = (event) => {
    view[key] = Number(event.target.value);
    showHeader();
    list();
  };
  return element('label', {}, `${label} `, element('select', { onchange }, ...options));
}

function filter() {
  const oninput = (event) => {
    view.filter = event.target.value;
    list();
  };
  return element('label', {}, 'Name contains ', element('input', { type: 'search', oninput }));
}

byId('choices').append(
  ...(hasSystems ? [choice('F1 by', overview.metrics, 'metric'), choice('of', overview.systems, 'system')] : []),
  ...(several ? [choice('compared with', overview.systems, 'other')] : []),
  filter(),
);
byId('choices').onsubmit = () => false;
byId('pages').append(
  element('button', { type: 'button', id: 'page-before', onclick: () => turn(-1) }, 'Previous page'),
  element('button', { type: 'button', id: 'page-after', onclick: () => turn(1) }, 'Next page'),
  element('span', { id: 'range', role: 'status' }),
);
byId('table').querySelector('table').replaceChildren(element('thead', {}, head), body);
showHeader();
list();
byId('choices').hidden = byId('pages').hidden = false;

