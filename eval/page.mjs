// Opens a report.html in Chromium and checks what Rust's tests cannot: that it opens fast and without errors, fetches nothing,
// fits on a phone, has no accessibility faults that axe finds, and can be used by keyboard.
//
//     npm install playwright-core axe-core        (in a folder of its own)
//     node PATH/TO/eval/page.mjs PATH/TO/report.html [FOLDER FOR PICTURES]
//
// CHROMIUM names the browser, /usr/bin/chromium without it. The report needs at least two records, with their documents.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(resolve('package.json'));
const { chromium } = require('playwright-core');
const axe = require.resolve('axe-core/axe.min.js');

const [report, pictures] = process.argv.slice(2);
const address = pathToFileURL(resolve(report)).href;
const args = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });

async function opened(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.faults = [];
  page.on('console', (message) => page.faults.push(message.text()));
  page.on('pageerror', (error) => page.faults.push(error.message));
  page.on('request', (request) => /^(file|data|blob):/.test(request.url()) || page.faults.push(request.url()));
  await page.goto(address, { waitUntil: 'commit' });
  await page.waitForLoadState('load');
  return page;
}

/** The rules that are broken, and where. */
async function violations(page) {
  await page.addScriptTag({ path: axe });
  const found = await page.evaluate(() => axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }));
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.length} times, ${nodes[0].html.slice(0, 200)}`);
}

const focused = (page) => page.evaluate(() => document.activeElement.outerHTML.slice(0, 120));
const order = (page) => page.$eval('#table thead th', (cell) => cell.getAttribute('aria-sort'));

async function looks(name, options) {
  // axe comes as a script, which the page's policy would not let in.
  const page = await opened({ bypassCSP: true, ...options });
  const [width, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(width <= room, `${name}: ${width} pixels wide`);
  const found = await violations(page);
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
  await page.click('#table tbody a');
  await page.waitForSelector('.card .copied');
  await page.hover('.card.marked .copied');
  await page.waitForSelector('#document .copied.current');
  found.push(...await violations(page));
  if (pictures) await page.screenshot({ path: `${pictures}/${name}-record.png` });
  assert.deepEqual([...found, ...page.faults], [], name);
  await page.context().close();
}

async function keyboard() {
  const page = await opened({});
  await page.keyboard.press('Tab');
  assert.match(await focused(page), /class="skip"/);
  await page.keyboard.press('Enter');
  assert.match(await focused(page), /id="content"/);
  await page.focus('#table thead button');
  for (const expected of ['ascending', 'descending', 'none']) {
    await page.keyboard.press('Enter');
    assert.equal(await order(page), expected);
  }
  await page.focus('#table tbody a');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.card .copied');
  assert.match(await focused(page), /viewer-title/);
  const first = await page.textContent('#viewer-title');
  await page.keyboard.press('ArrowRight');
  await page.waitForFunction((name) => document.querySelector('#viewer-title').textContent !== name, first);
  await page.keyboard.press('ArrowLeft');
  await page.waitForFunction((name) => document.querySelector('#viewer-title').textContent === name, first);
  await page.waitForSelector('.card.marked .copied');
  for (let presses = 0; !/class="copied/.test(await focused(page)); presses += 1) {
    assert.ok(presses < 30, 'no copied part can be reached');
    await page.keyboard.press('Tab');
  }
  await page.waitForSelector('#document .copied.current');
  await page.keyboard.press('Enter');
  assert.ok(await page.evaluate(() => document.activeElement.closest('#document')), 'the source has the focus');
  await page.keyboard.press('Enter');
  assert.ok(await page.evaluate(() => document.activeElement.closest('#summaries')), 'and the summary again');
  await page.keyboard.press('Escape');
  assert.match(await focused(page), /#record-0/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

/** What is said where texts cannot be shown. */
async function limits() {
  const silent = await opened({ javaScriptEnabled: false });
  assert.ok(await silent.isVisible('noscript .notice'));
  assert.ok(await silent.locator('#table tbody tr').count() > 0);
  assert.equal(await silent.locator('#choices').isVisible(), false);
  await silent.context().close();
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.addInitScript(() => delete globalThis.DecompressionStream);
  await page.goto(address);
  assert.ok(await page.isVisible('#cannot-unpack'));
  assert.equal(await page.locator('#table tbody a').count(), 0);
  assert.ok(await page.locator('#table tbody tr').count() > 0);
  await context.close();
}

/** Milliseconds until the table can be used, until everything is there, and until a record's texts are. */
async function times() {
  const page = await opened({});
  const [usable, done] = await page.evaluate(() => {
    const [entry] = performance.getEntriesByType('navigation');
    return [performance.getEntriesByName('first-contentful-paint')[0]?.startTime, entry.loadEventEnd || performance.now()];
  });
  const record = await page.evaluate(async () => {
    const start = performance.now();
    document.querySelector('#table tbody a').click();
    while (!document.querySelector('.card .content')) await new Promise((next) => setTimeout(next, 1));
    return performance.now() - start;
  });
  const sorting = await page.evaluate(() => {
    const start = performance.now();
    document.querySelector('#table thead button').click();
    return performance.now() - start;
  });
  const shown = [usable, done, record, sorting].map((time) => `${Math.round(time)} ms`);
  console.log(`painted after ${shown[0]}, loaded after ${shown[1]}; a record's texts take ${shown[2]}, sorting ${shown[3]}`);
  await page.context().close();
}

const phone = { width: 375, height: 740 };
const desktop = { width: 1280, height: 900 };
for (const colorScheme of ['light', 'dark']) {
  await looks(`desktop-${colorScheme}`, { viewport: desktop, colorScheme });
  await looks(`phone-${colorScheme}`, { viewport: phone, colorScheme, hasTouch: true });
}
await keyboard();
await limits();
await times();
await browser.close();
console.log('all checks passed');
