// The page from a plain folder in Chromium: CHROMIUM=/path node web/tests/page.mjs PAGE MODEL PROGRAM [SCREENSHOTS]
//   Masks are the native program's but for rounding (MOST_PIXELS_APART); it works without a network; weights are dropped; what is broken is said.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { MOST_PIXELS_APART, modelFiles, native, pixelsApart, png, questions, scene } from './scenes.mjs';
import { folder } from './server.mjs';

const require = createRequire(new URL('../../tests/browser/package.json', import.meta.url));
const { chromium } = require('playwright-core');
const [pageFolder, modelFolder, program, screenshots] = process.argv.slice(2).map((path) => resolve(path));
const SCENES = 24;
if (screenshots) mkdirSync(screenshots, { recursive: true });

let page, context, server, judge;
const text = (selector) => page.locator(selector).innerText();
const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const ready = () => page.waitForFunction(() => /Ready/.test(document.getElementById('status').textContent));
const loaded = (what = 'in this browser') => page.waitForFunction((what) => document.getElementById('model').textContent.includes(what), what);

/** Waits for the model's answers about every mask. */
const answered = (count) => page.waitForFunction((count) => {
  const all = [...document.querySelectorAll('#masks .figures')].map((e) => e.textContent);
  return all.length === count && all.every((t) => /score|not there/.test(t));
}, count);

/** Drops files { name, type, data in base64 } onto the page. */
const drop = (files) => page.evaluate((files) => {
  const transfer = new DataTransfer();
  for (const { name, type, data } of files) transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name, { type }));
  document.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
}, files);
const dropScene = (image) => drop([{ name: 'scene.png', type: 'image/png', data: base64(png(image)) }]);
const dropModel = (files) => drop(Object.entries(files).map(([name, bytes]) => ({ name, type: '', data: base64(bytes) })));

async function say(sentence) {
  await page.fill('#sentence', sentence);
  await page.press('#sentence', 'Enter');
}

/** Masks as the page copies them: sentence to run lengths. */
async function copied() {
  await page.click('[data-copy="coco"]');
  await page.waitForFunction(() => document.getElementById('status').textContent === 'Copied.');
  const { categories, annotations } = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  return Object.fromEntries(annotations.map((a) => [categories[a.category_id - 1].name, a.segmentation.counts]));
}

const tests = {
  async 'the page says which engine runs'() {
    await loaded();
    assert.match(await text('#where'), /never leaves this browser/);
    if (screenshots) await page.screenshot({ path: `${screenshots}/web-empty.png` });
  },

  async 'an image is dropped, two sentences are asked, one click corrects'() {
    const image = scene(3);
    const wanted = await judge.ask(image);
    await dropScene(image);
    await ready();
    await say('the red circle');
    await say('the square on the left');
    await answered(2);
    const got = await copied();
    for (const [at, sentence] of ['the red circle', 'the square on the left'].entries()) {
      if (wanted[at].area) assert.ok(pixelsApart(got[sentence], wanted[at].counts) <= MOST_PIXELS_APART, sentence);
    }
    const box = await page.locator('#canvas').boundingBox();
    await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await page.waitForFunction(() => [...document.querySelectorAll('#masks .figures')].some((e) => /1 click/.test(e.textContent)));
    if (screenshots) await page.screenshot({ path: `${screenshots}/web-masks.png` });
  },

  async 'masks of 24 scenes are the native program’s, and the page stays awake'() {
    await page.evaluate(async () => {
      window.engine = new (await import(new URL('page/wasm-engine.js', document.baseURI))).WasmEngine();
      await window.engine.info();
      window.longest = 0;
      let before = performance.now();
      const tick = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - before); before = now; setTimeout(tick, 5); };
      tick();
    });
    for (let seed = 0; seed < SCENES; seed++) {
      const image = scene(seed);
      const wanted = await judge.ask(image);
      const got = await page.evaluate(async ([data, questions]) => {
        const image = await window.engine.embed(new Blob([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], { type: 'image/png' }));
        return (await window.engine.ask(image, questions)).predictions.map((p) => p.segmentation.counts);
      }, [base64(png(image)), questions(image)]);
      wanted.forEach(({ counts }, at) => {
        const apart = pixelsApart(got[at], counts);
        assert.ok(apart <= MOST_PIXELS_APART, `scene ${seed}, question ${at}: ${apart} pixels differ`);
      });
    }
    const longest = await page.evaluate(() => window.longest);
    assert.ok(longest < 1000, `the page slept for ${longest} ms`);
  },

  async 'a picture of 50 megapixels is read'() {
    const [width, height] = await page.evaluate(async () => {
      const canvas = new OffscreenCanvas(8192, 6144);
      canvas.getContext('2d').fillRect(0, 0, 4000, 4000);
      const image = await window.engine.embed(await canvas.convertToBlob({ type: 'image/jpeg' }));
      return (await window.engine.ask(image, [{ sentence: 'the red circle' }])).predictions[0].segmentation.size.reverse();
    });
    assert.deepEqual([width, height], [8192, 6144]);
  },

  async 'an empty sentence and a broken image are named'() {
    await say('   ');
    assert.match(await text('#status'), /Say what to look for/);
    await drop([{ name: 'broken.png', type: 'image/png', data: base64(Buffer.from('no image')) }]);
    await page.waitForSelector('#alert:not([hidden])');
    assert.match(await text('#alert-text'), /no image that can be read/);
    await page.click('#alert-close');
  },

  async 'weights of one’s own are dropped; broken ones are named and change nothing'() {
    const files = modelFiles(modelFolder);
    const weights = Object.keys(files).find((name) => name.endsWith('.safetensors'));
    await dropModel({ ...files, [weights]: files[weights].slice(0, 1000) });
    await page.waitForSelector('#alert:not([hidden])');
    await page.click('#alert-close');
    await loaded();
    await dropModel({ [weights]: files[weights] });
    await page.waitForSelector('#alert:not([hidden])');
    assert.match(await text('#alert-text'), /config\.json: is missing/);
    await page.click('#alert-close');
    await dropModel(files);
    await loaded('your own weights');
    await dropScene(scene(5));
    await ready();
    await say('the red circle');
    await answered(1);
  },

  async 'a tab that is closed in the middle leaves the others alone'() {
    const other = await context.newPage();
    await other.goto(server.address);
    await other.evaluate(() => { document.querySelector('#examples button').click(); });
    await other.close();
    await say('the square on the left');
    await answered(2);
  },

  async 'without a network the page opens and answers'() {
    await page.evaluate(() => navigator.serviceWorker.ready);
    await page.waitForFunction(async () => (await caches.keys()).length > 0 && (await (await caches.open((await caches.keys())[0])).keys()).length > 10);
    await server.stop();
    await page.reload();
    await loaded();
    await dropScene(scene(1));
    await ready();
    await say('the red circle');
    await answered(1);
  },
};

judge = await native(program, modelFolder);
server = await folder(pageFolder);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
const errors = [];
let failed = false;
try {
  context = await browser.newContext({ viewport: { width: 1280, height: 860 }, colorScheme: 'light', reducedMotion: 'reduce' });
  await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: server.address });
  page = await context.newPage();
  page.setDefaultTimeout(60000);
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('request', (request) => {
    const { protocol, origin } = new URL(request.url());
    if (!['blob:', 'data:'].includes(protocol) && origin !== server.address) errors.push(`asked another server: ${request.url()}`);
  });
  await page.goto(server.address);
  for (const [name, test] of Object.entries(tests)) {
    await test();
    console.log(`ok  ${name}`);
  }
  assert.deepEqual(errors, [], 'errors of the page');
} catch (error) {
  failed = true;
  console.error(error, errors, await page?.locator('#alert-text').textContent().catch(() => ''));
  if (screenshots) await page?.screenshot({ path: `${screenshots}/web-failed.png` }).catch(() => {});
} finally {
  judge.stop();
  await browser.close();
  await server.stop();
}
process.exit(failed ? 1 : 0);
