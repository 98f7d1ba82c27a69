// A person's session with the page: drop an image, ask, correct, undo, reload, narrow, broken file, server gone; axe-core on each screen.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { resolve } from 'node:path';
import { chromium } from 'playwright-core';

const [program, run, screenshots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
if (screenshots) mkdirSync(screenshots, { recursive: true });

/** Starts the server; its address once it is printed. Without a run it serves the model that comes with it. */
function serve(...more) {
  const model = run === '-' ? [] : ['--run', resolve(run)];
  const options = { cwd: tmpdir(), stdio: ['ignore', 'pipe', 'inherit'] };
  const child = spawn(resolve(program), ['serve', ...model, '--addr', '127.0.0.1:0', ...more], options);
  const address = new Promise((done, failed) => {
    child.stdout.on('data', (data) => { const found = /http:\S+/.exec(String(data)); if (found) done(found[0]); });
    child.on('exit', (code) => failed(new Error(`the server ended with ${code}`)));
  });
  const stop = () => new Promise((done) => { child.once('exit', done); child.kill('SIGTERM'); });
  return { address, stop };
}

let page;
const text = (selector) => page.locator(selector).innerText();
const masks = () => page.locator('#masks .mask');
const figures = (index) => masks().nth(index).locator('.figures').innerText();

/** Whether the model found anything, which a barely trained one need not. */
const isThere = async (index) => !/not there/.test(await figures(index));

/** Waits for the model's answers about every mask. */
async function answered(count) {
  await page.waitForFunction((count) => {
    const all = [...document.querySelectorAll('#masks .figures')].map((e) => e.textContent);
    return all.length === count && all.every((t) => /score|not there/.test(t));
  }, count);
}

/** Fails on anything serious that axe-core finds. */
async function accessible(screen) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((v) => ['serious', 'critical'].includes(v.impact));
  const shown = serious.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(' ')).join(', ')}`);
  assert.deepEqual(shown, [], `axe-core on ${screen}`);
}

/** A screenshot for docs/serve.md. */
async function shot(name) {
  if (screenshots) await page.screenshot({ path: `${screenshots}/serve-${name}.png` });
}

/** A sum over the canvas's pixels, by which drawings are told apart. */
async function painted() {
  // What the pointer is over stands out.
  await page.mouse.move(0, 0);
  return page.evaluate(() => {
    const canvas = document.getElementById('canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let sum = 0;
    for (let i = 0; i < data.length; i += 4) sum = (sum * 31 + data[i] + 7 * data[i + 1] + 13 * data[i + 2]) >>> 0;
    return sum;
  });
}

/** Drops or pastes a drawn image, or a file that is none. */
const drop = (how = 'drop') => page.evaluate(async (how) => {
  const broken = how === 'broken';
  const canvas = Object.assign(document.createElement('canvas'), { width: 200, height: 150 });
  const c = canvas.getContext('2d');
  c.fillStyle = '#ddd8cc'; c.fillRect(0, 0, 200, 150);
  c.fillStyle = '#d3372f'; c.beginPath(); c.arc(60, 70, 34, 0, 7); c.fill();
  c.fillStyle = '#2f5fd0'; c.fillRect(120, 60, 56, 56);
  const whole = await new Promise((done) => canvas.toBlob(done, 'image/png'));
  const file = new File([broken ? 'not an image' : whole], broken ? 'broken.png' : 'drawn.png', { type: 'image/png' });
  const transfer = new DataTransfer();
  transfer.items.add(file);
  const event = how === 'paste' ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true })
    : new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
  document.dispatchEvent(event);
}, how);

// MORE is a folder for looks at the other screens.
const more = async (name) => { if (process.env.MORE) await page.screenshot({ path: `${process.env.MORE}/${name}.png` }); };

const steps = [];
const step = (name, body) => steps.push({ name, body });

step('the empty page says what to do, in both themes', async () => {
  await page.waitForFunction(() => document.getElementById('model').textContent.length > 0);
  await accessible('the empty page');
  await shot('empty');
  await page.click('#theme');
  assert.equal(await page.evaluate(() => document.documentElement.dataset.theme), 'dark');
  await accessible('the empty page in the dark');
  await more('empty-dark');
  await page.click('#theme');
});

step('an image is dropped and two sentences are asked', async () => {
  await drop();
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent));
  const plain = await painted();
  await page.fill('#sentence', 'the red circle');
  await page.press('#sentence', 'Enter');
  await page.fill('#sentence', 'the blue square');
  await page.click('#go');
  await answered(2);
  if (await isThere(0) || await isThere(1)) assert.notEqual(await painted(), plain, 'masks are drawn');
  const took = Number(/(\d+) ms/.exec(await text('#status'))[1]);
  // `bench serve` measures it; here other programs may be busy.
  assert.ok(took < 5000, `a sentence took ${took} ms`);
  await accessible('two masks');
});

step('what is pointed at stands out', async () => {
  const plain = await painted();
  await masks().nth(1).hover();
  assert.match(await masks().nth(1).getAttribute('class'), /hovered/);
  await page.mouse.move(0, 0);
  assert.equal(await painted(), plain);
});

step('a mask is hidden and shown', async () => {
  const before = await painted();
  await page.getByRole('button', { name: /Hide .*red circle/ }).click();
  if (await isThere(0)) assert.notEqual(await painted(), before);
  await page.getByRole('button', { name: /Show .*red circle/ }).click();
  assert.equal(await painted(), before);
});

step('a click corrects the chosen mask and is undone', async () => {
  await page.getByRole('button', { name: /^the red circle/ }).click();
  const before = await figures(0);
  const box = await page.locator('#canvas').boundingBox();
  await page.mouse.click(box.x + 0.8 * box.width, box.y + 0.6 * box.height);
  await page.waitForFunction(() => /1 click/.test(document.querySelector('#masks .figures').textContent));
  await page.click('#tool-cut');
  await page.mouse.click(box.x + 0.1 * box.width, box.y + 0.9 * box.height);
  await page.waitForFunction(() => /2 clicks/.test(document.querySelector('#masks .figures').textContent));
  await page.click('#undo');
  await page.click('#undo');
  await page.mouse.move(0, 0);
  await page.waitForFunction((before) => document.querySelector('#masks .figures').textContent === before, before);
  await page.click('#tool-add');
});

step('the keyboard alone suffices', async () => {
  await page.focus('#canvas');
  for (const key of ['ArrowLeft', 'Shift+ArrowUp', 'Enter']) await page.keyboard.press(key);
  await page.waitForFunction(() => /1 click/.test(document.querySelector('#masks .figures').textContent));
  await page.keyboard.press('-');
  await page.waitForFunction(() => /2 clicks/.test(document.querySelector('#masks .figures').textContent));
  await page.keyboard.press('u');
  await page.keyboard.press('u');
  await answered(2);
  assert.doesNotMatch(await figures(0), /click/);
});

step('masks are copied as COCO, curl, Python and PNG', async () => {
  for (const [what, holds] of [['coco', '"annotations"'], ['curl', '/v1/segment'], ['python', 'requests.post']]) {
    await page.click(`[data-copy="${what}"]`);
    await page.waitForFunction(() => document.getElementById('status').textContent === 'Copied.');
    assert.ok((await page.evaluate(() => navigator.clipboard.readText())).includes(holds), what);
  }
  await page.click('[data-copy="png"]');
  await page.waitForFunction(() => /clipboard/.test(document.getElementById('status').textContent));
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('[data-copy="overlay"]')]);
  assert.equal(download.suggestedFilename(), 'overlay.png');
});

step('the attention map opens and closes', async () => {
  await page.getByRole('button', { name: /Where did it look for .*red circle/ }).click();
  await page.waitForSelector('#attention[open]');
  await page.waitForFunction(() => document.getElementById('attention-image').naturalWidth > 0);
  await accessible('the attention map');
  await page.keyboard.press('Escape');
});

step('an example is chosen and asked by its suggestions', async () => {
  await page.reload();
  await page.locator('#examples button').first().click();
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent));
  while (await page.locator('#hints button').count()) await page.locator('#hints button').first().click();
  await answered(3);
  await page.mouse.move(0, 0);
  await shot('masks-light');
  await page.click('#theme');
  await accessible('masks in the dark');
  await shot('masks-dark');
  await page.click('#theme');
});

step('progress is shown while the image is read', async () => {
  await page.reload();
  let release;
  const held = new Promise((done) => { release = done; });
  await page.route('**/v1/images', async (route) => {
    await held;
    await route.continue();
  });
  await page.locator('#examples button').nth(1).click();
  await page.waitForSelector('#progress:not([hidden])');
  assert.match(await text('#status'), /^Reading the image/);
  assert.equal(await page.getAttribute('#work', 'aria-busy'), 'true');
  release();
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent));
  assert.ok(await page.isHidden('#progress'));
  await page.unroute('**/v1/images');
});

step('a reload begins anew, and the same image, pasted, is ready at once', async () => {
  await page.reload();
  assert.ok(await page.isVisible('#empty'));
  await drop('paste');
  await page.waitForFunction(() => /was kept/.test(document.getElementById('status').textContent));
});

step('380 pixels are enough', async () => {
  await page.setViewportSize({ width: 380, height: 780 });
  await page.fill('#sentence', 'the red circle');
  await page.press('#sentence', 'Enter');
  await answered(1);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 380, `the page is ${wide} pixels wide`);
  await accessible('the narrow page');
  await shot('narrow');
  await page.reload();
  assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 380);
  await accessible('the narrow empty page');
  await more('narrow-empty');
  await page.setViewportSize({ width: 1280, height: 860 });
});

step('a broken file is named', async () => {
  await drop('broken');
  await page.waitForSelector('#alert:not([hidden])');
  assert.match(await text('#alert-text'), /no image that can be read/);
  await accessible('the message about a broken file');
  await more('broken');
  await page.click('#alert-close');
});

step('a server that has gone is named, and trying again is offered', async () => {
  await drop();
  await page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent));
  await server.stop();
  await page.fill('#sentence', 'left one');
  await page.press('#sentence', 'Enter');
  await page.waitForSelector('#alert:not([hidden])');
  assert.match(await text('#alert-text'), /does not answer/);
  assert.ok(await page.isVisible('#alert-retry'));
  await more('gone');
});

step('a server with a token asks for it', async () => {
  server = serve('--token', 's3cret');
  const address = await server.address;
  await page.goto(address);
  await page.waitForSelector('#token[open]');
  await accessible('the question for the token');
  await page.fill('#token-value', 's3cret');
  await page.click('#token-form .primary');
  await page.waitForFunction(() => document.getElementById('model').textContent.length > 0);
  await server.stop();
});

let server = serve();
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
const errors = [];
let failed = false;
try {
  const address = await server.address;
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: 'light', reducedMotion: 'reduce' });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: new URL(address).origin });
  page = await context.newPage();
  page.setDefaultTimeout(30000);
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['blob:', 'data:'].includes(protocol) && !/127\.0\.0\.1/.test(origin)) errors.push(`asked another server: ${request.url()}`);
  });
  await page.goto(address);
  for (const { name, body } of steps) {
    await body();
    console.log(`ok  ${name}`);
  }
  assert.deepEqual(errors, [], 'errors of the page');
} catch (error) {
  failed = true;
  console.error(error);
  if (screenshots) await page?.screenshot({ path: `${screenshots}/failed.png` }).catch(() => {});
} finally {
  await browser.close();
  await Promise.race([server.stop(), new Promise((done) => setTimeout(done, 5000))]);
}
process.exit(failed ? 1 : 0);
