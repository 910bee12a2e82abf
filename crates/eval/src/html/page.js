// What the parts of the script share.

const byId = (id) => document.getElementById(id);

/** A new element. Children are elements or text; nothing is ever read as HTML. */
function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** `rows` are [id, words of the document or null, of the reference, of each summary, hundredths of F1 by system, then metric]. */
const [overview, ...rows] = JSON.parse(byId('numbers').textContent);

function f1(row, system, metric) {
  return rows[row][4][system * overview.metrics.length + metric];
}

/** Hundredths as the tables of the page show them. */
const hundredths = (value) => (value / 100).toFixed(2);

const canUnpack = (() => {
  try {
    return Boolean(new DecompressionStream('deflate-raw'));
  } catch {
    return false;
  }
})();
byId('cannot-unpack').hidden = canUnpack || overview.shown === 0;

/** How many records, the first ones, can be opened. */
const openable = canUnpack ? overview.shown : 0;

// The texts stand behind the script.
const loaded = new Promise((resolve) => document.addEventListener('DOMContentLoaded', resolve));

/** The texts of a record: document, starts, references and systems, as html/record.rs makes them. */
async function unpack(row) {
  await loaded;
  const letters = atob(byId(`texts-${row}`).textContent);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'));
  return new Response(stream).json();
}

