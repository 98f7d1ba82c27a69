// The page's state and what its buttons do.

import { connect } from './engine.js';
import { COLOURS, decode, maskPng, paint } from './masks.js';
import { Stage } from './stage.js';
import { EXAMPLES, drawn, file as exampleFile } from './examples.js';

const $ = (id) => document.getElementById(id);
const engine = await connect();
const stage = new Stage($('canvas'), { click: correct, hover: (item) => { hovered = item; renderMasks(); }, undo });

let model = null;
let image = null;      // What the engine keeps of the image, with its bitmap and file.
let loading = 0;       // Number of the newest image; older ones that come late are dropped.
let items = [];        // { sentence, points, answer, mask, painted, colour, visible, busy }
let chosen = null;
let hovered = null;
let history = [];
let label = 1;
let retry = null;
let colours = 0;
let suggested = [];

// ---- the image ----

async function open(file, hints = []) {
  if (!file) return;
  const mine = ++loading;
  hideAlert();
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return showAlert('This file is no image that can be read. Choose a JPEG, PNG or WebP file.');
  }
  if (mine !== loading) return;
  image = null;
  items = [];
  chosen = hovered = null;
  history = [];
  colours = 0;
  $('empty').hidden = true;
  $('work').hidden = $('replace').hidden = false;
  $('work').style.setProperty('--ratio', bitmap.width / bitmap.height);
  stage.show(bitmap, bitmap.width, bitmap.height);
  $('canvas').setAttribute('aria-label', `The image, ${bitmap.width} by ${bitmap.height} pixels`);
  suggested = hints;
  render();
  await embed(file, bitmap, mine);
}

async function embed(file, bitmap, mine) {
  const begun = performance.now();
  const seconds = () => ((performance.now() - begun) / 1000).toFixed(1);
  const say = () => status(`Reading the image … ${seconds()} s`);
  const clock = setInterval(say, 100);
  say();
  $('progress').hidden = false;
  $('work').setAttribute('aria-busy', 'true');
  try {
    const made = await engine.embed(file);
    if (mine !== loading) return;
    image = { ...made, bitmap };
    status(made.kept ? 'Ready: this image was kept.' : `Ready in ${seconds()} s.`);
    $('sentence').focus({ preventScroll: true });
    for (const item of items.filter((item) => !item.answer)) ask(item);
  } catch (error) {
    if (mine !== loading) return;
    status('');
    failed(error, () => embed(file, bitmap, mine));
  } finally {
    clearInterval(clock);
    if (mine === loading) {
      $('progress').hidden = true;
      $('work').removeAttribute('aria-busy');
    }
  }
}

// ---- sentences and clicks ----

function add(sentence) {
  const known = items.find((item) => item.sentence === sentence);
  if (known) return choose(known);
  remember();
  const item = { sentence, points: [], colour: COLOURS[colours++ % COLOURS.length], visible: true };
  items = [...items, item];
  choose(item);
  if (image) ask(item);
  else status('The sentence is asked as soon as the image is read.');
}

async function ask(item) {
  const mine = item.asking = {};
  item.busy = true;
  renderMasks();
  const asked = image;
  const begun = performance.now();
  try {
    const question = { points: item.points };
    if (item.sentence !== null) question.sentence = item.sentence;
    const body = await engine.ask(asked, [question]);
    if (asked !== image || item.asking !== mine) return;
    item.answer = body.predictions[0];
    item.mask = decode(item.answer.segmentation);
    item.painted = paint(item.mask, item.colour);
    status(`${name(item)}: ${item.answer.area ? 'masked' : 'not there'}, ${Math.round(performance.now() - begun)} ms.`);
  } catch (error) {
    if (asked !== image || item.asking !== mine) return;
    item.failed = true;
    failed(error, () => ask(item));
  } finally {
    if (item.asking === mine) item.busy = false;
    render();
  }
}

function correct(x, y, given) {
  if (!image) return;
  if (!model.points) return showAlert('This model answers sentences alone: its decoder takes no clicks.');
  const value = given ?? label;
  remember();
  if (!chosen) {
    const item = { sentence: null, points: [], colour: COLOURS[colours++ % COLOURS.length], visible: true };
    items = [...items, item];
    chosen = item;
  }
  chosen.points = [...chosen.points, [x, y, value]];
  ask(chosen);
  render();
}

function remove(item) {
  remember();
  items = items.filter((other) => other !== item);
  if (chosen === item) chosen = items.at(-1) ?? null;
  if (hovered === item) hovered = null;
  render();
  $('sentence').focus();
}

// What can be undone: which items there are, and their clicks.
function remember() {
  history = [...history.slice(-49), { chosen, items: items.map((item) => ({ item, points: item.points })) }];
}

function undo() {
  const before = history.pop();
  if (!before) return;
  items = before.items.map(({ item, points }) => {
    const changed = item.points !== points;
    item.points = points;
    if (changed) ask(item);
    return item;
  });
  chosen = items.includes(before.chosen) ? before.chosen : items.at(-1) ?? null;
  if (!items.includes(hovered)) hovered = null;
  status('Undone.');
  render();
}

function choose(item) {
  chosen = item;
  render();
}

const name = (item) => (item.sentence === null ? 'Clicked object' : `“${item.sentence}”`);

// ---- what is shown ----

function render() {
  renderMasks();
  renderHints();
  $('undo').disabled = history.length === 0;
  $('none').hidden = items.length > 0;
  $('share').hidden = !items.some((item) => item.answer);
}

function renderMasks() {
  const list = $('masks');
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  list.replaceChildren(...items.map(row));
  if (focused) list.querySelector(`[data-key="${focused}"]`)?.focus();
  stage.update(items, chosen, hovered);
}

const EYE = '<path d="M2 12s4-7 10-7 10 7 10 7-4 7-10 7-10-7-10-7Z"/><circle cx="12" cy="12" r="3"/>';
const SHUT = '<path d="M3 3l18 18M10 5a10 10 0 0 1 12 7 13 13 0 0 1-3 4M6 7a14 14 0 0 0-4 5s4 7 10 7a9 9 0 0 0 4-1"/>';
const CROSS = '<path d="m6 6 12 12M18 6 6 18"/>';
const LOOK = '<circle cx="11" cy="11" r="7"/><path d="m20 20-4-4"/>';

function row(item, index) {
  const row = document.createElement('li');
  row.className = `mask${item === chosen ? ' chosen' : ''}${item === hovered ? ' hovered' : ''}${item.visible ? '' : ' off'}`;
  row.style.setProperty('--dot', `rgb(${item.colour})`);
  const pick = document.createElement('button');
  pick.type = 'button';
  pick.className = 'pick';
  pick.dataset.key = `pick-${index}`;
  pick.setAttribute('aria-pressed', String(item === chosen));
  const dot = Object.assign(document.createElement('span'), { className: 'dot' });
  const says = Object.assign(document.createElement('span'), { className: 'says' });
  const words = Object.assign(document.createElement('span'), { className: 'words', textContent: item.sentence ?? 'Clicked object' });
  const absent = isAbsent(item);
  const figures = Object.assign(document.createElement('span'), { className: `figures${absent ? ' absent' : ''}`, textContent: figuresOf(item, absent) });
  says.append(words, figures);
  pick.append(dot, says);
  pick.addEventListener('click', () => choose(item));
  row.addEventListener('pointerenter', () => light(item));
  row.addEventListener('pointerleave', () => light(null));
  const actions = Object.assign(document.createElement('div'), { className: 'actions' });
  if (model?.attention && item.sentence !== null) actions.append(button(`Where did it look for ${name(item)}`, LOOK, `look-${index}`, () => look(item)));
  actions.append(button(`${item.visible ? 'Hide' : 'Show'} ${name(item)}`, item.visible ? EYE : SHUT, `eye-${index}`, () => {
    item.visible = !item.visible;
    render();
  }));
  actions.append(button(`Remove ${name(item)}`, CROSS, `cross-${index}`, () => remove(item)));
  row.append(pick, actions);
  return row;
}

// Only classes change, so that the row under the pointer stays.
function light(item) {
  hovered = item;
  [...$('masks').children].forEach((row, index) => row.classList.toggle('hovered', items[index] === item));
  stage.update(items, chosen, hovered);
}

const isAbsent = ({ answer }) => Boolean(answer) && (answer.area === 0 || (answer.presence !== null && answer.presence < 0.5));

function figuresOf(item, absent) {
  if (item.busy) return 'Looking …';
  if (!item.answer) return item.failed ? 'No answer' : 'Waiting for the image';
  const parts = [absent ? 'not there' : `score ${item.answer.score.toFixed(2)}`];
  if (!absent) parts.push(`${(100 * item.answer.area / (image.width * image.height)).toFixed(1)} % of image`);
  const clicks = item.points.length;
  if (clicks) parts.push(`${clicks} click${clicks > 1 ? 's' : ''}`);
  if (item.answer.tokens_not_read) parts.push(`not read: “${item.answer.tokens_not_read}”`);
  return parts.join(' · ');
}

function button(text, path, key, action) {
  const button = document.createElement('button');
  button.type = 'button';
  button.dataset.key = key;
  button.setAttribute('aria-label', text);
  button.title = text;
  button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true">${path}</svg>`;
  button.addEventListener('click', action);
  return button;
}

// Suggestions that were not taken yet.
function renderHints() {
  const left = suggested.filter((hint) => !items.some((item) => item.sentence === hint));
  $('hints').replaceChildren(...left.map((hint) => {
    const button = Object.assign(document.createElement('button'), { type: 'button', textContent: hint });
    button.addEventListener('click', () => {
      add(hint);
      $('sentence').focus({ preventScroll: true });
    });
    return button;
  }));
}

function status(text) {
  $('status').textContent = text;
}

function showAlert(text, again = null) {
  retry = again;
  $('alert-text').textContent = text;
  $('alert-retry').hidden = !again;
  $('alert').hidden = false;
}

function hideAlert() {
  $('alert').hidden = true;
}

function failed(error, again) {
  if (error.status === 401) return askToken(again);
  const later = error.retryAfter ? ` (in ${error.retryAfter} s)` : '';
  // The API's messages begin in lower case.
  showAlert(error.message.charAt(0).toUpperCase() + error.message.slice(1) + later, error.gone || error.status === 429 || error.status >= 500 ? again : null);
}

function askToken(again) {
  retry = again;
  $('token').showModal();
}

// ---- taking it along ----

async function look(item) {
  status(`Drawing where it looked for ${name(item)} …`);
  try {
    const url = URL.createObjectURL(await engine.attention(image, item.sentence));
    $('attention-image').src = url;
    $('attention-image').alt = `Attention maps for ${name(item)}`;
    $('attention').addEventListener('close', () => URL.revokeObjectURL(url), { once: true });
    $('attention').showModal();
    status('');
  } catch (error) {
    status('');
    failed(error, () => look(item));
  }
}

const answered = () => items.filter((item) => item.answer && item.visible);

function coco() {
  const found = answered();
  return JSON.stringify({
    images: [{ id: 1, file_name: image.file.name || 'image', width: image.width, height: image.height }],
    categories: found.map((item, i) => ({ id: i + 1, name: item.sentence ?? 'clicked', supercategory: '' })),
    annotations: found.filter(({ answer }) => answer.area).map((item, i) => ({
      id: i + 1, image_id: 1, category_id: found.indexOf(item) + 1, segmentation: item.answer.segmentation,
      bbox: item.answer.bbox, area: item.answer.area, iscrowd: 0, score: item.answer.score,
    })),
  }, null, 1);
}

const questions = () => JSON.stringify(answered().map(({ sentence, points }) => ({ ...(sentence === null ? {} : { sentence }), points })));

function curl() {
  const quoted = questions().replaceAll("'", "'\\''");
  const token = engine.token ? ' -H "Authorization: Bearer $TOKEN"' : '';
  return `curl${token} -F image=@photo.jpg -F 'questions=${quoted}' ${location.origin}/v1/segment`;
}

function python() {
  const token = engine.token ? ', headers={"Authorization": f"Bearer {token}"}' : '';
  return `import json, requests\n\nquestions = json.loads(${JSON.stringify(questions())})\nanswer = requests.post(\n    "${location.origin}/v1/segment",\n`
    + `    files={"image": open("photo.jpg", "rb")},\n    data={"questions": json.dumps(questions)}${token},\n)\nanswer.raise_for_status()\n`
    + 'for found in answer.json()["predictions"]:\n    print(found["sentence"], found["score"], found["bbox"])\n';
}

function overlay() {
  const canvas = document.createElement('canvas');
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext('2d');
  context.drawImage(image.bitmap, 0, 0, canvas.width, canvas.height);
  for (const item of answered()) context.drawImage(item.painted, 0, 0);
  return new Promise((done) => canvas.toBlob(done, 'image/png'));
}

function download(blob, name) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

async function copyMask() {
  const item = chosen?.answer ? chosen : answered()[0];
  if (!item) return;
  const png = await maskPng(item.mask);
  try {
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': png })]);
    status('The mask is in the clipboard.');
  } catch {
    download(png, 'mask.png');
    status('The clipboard takes no images here; the mask was downloaded.');
  }
}

async function take(what) {
  if (what === 'overlay') return download(await overlay(), 'overlay.png');
  if (what === 'png') return copyMask();
  const text = { coco, curl, python }[what]();
  try {
    await navigator.clipboard.writeText(text);
    status('Copied.');
  } catch {
    download(new Blob([text], { type: 'text/plain' }), { coco: 'coco.json', curl: 'curl.txt', python: 'ask.py' }[what]);
    status('The clipboard is closed here; it was downloaded.');
  }
}

// ---- wiring ----

function tool(value) {
  label = value;
  $('tool-add').setAttribute('aria-pressed', String(value === 1));
  $('tool-cut').setAttribute('aria-pressed', String(value === 0));
}

function theme(value) {
  document.documentElement.dataset.theme = value;
}

const dark = matchMedia('(prefers-color-scheme: dark)');
theme(localStorage.getItem('saymask-theme') || (dark.matches ? 'dark' : 'light'));
dark.addEventListener('change', () => { if (!localStorage.getItem('saymask-theme')) theme(dark.matches ? 'dark' : 'light'); });
$('theme').addEventListener('click', () => {
  const next = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
  localStorage.setItem('saymask-theme', next);
  theme(next);
});

$('file').addEventListener('change', (event) => {
  open(event.target.files[0]);
  event.target.value = '';
});
$('replace').addEventListener('click', () => $('file').click());
$('tool-add').addEventListener('click', () => tool(1));
$('tool-cut').addEventListener('click', () => tool(0));
$('undo').addEventListener('click', undo);
$('alert-close').addEventListener('click', hideAlert);
$('alert-retry').addEventListener('click', () => {
  hideAlert();
  retry?.();
});
$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  const sentence = $('sentence').value.trim();
  if (!sentence) return status('Say what to look for, such as “the red circle”.');
  $('sentence').value = '';
  hideAlert();
  add(sentence);
});
$('token-form').addEventListener('submit', () => {
  engine.setToken($('token-value').value);
  $('token-value').value = '';
  retry?.();
});
document.querySelectorAll('[data-copy]').forEach((button) => button.addEventListener('click', () => take(button.dataset.copy)));
document.addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === 'z' && event.target.tagName !== 'INPUT') {
    event.preventDefault();
    undo();
  }
});
document.addEventListener('paste', (event) => {
  const file = [...event.clipboardData.files].find((file) => file.type.startsWith('image/'));
  if (file) {
    event.preventDefault();
    open(file);
  }
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('over');
});
document.addEventListener('dragleave', (event) => { if (!event.relatedTarget) document.body.classList.remove('over'); });
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  const weights = engine.weightsIn?.(event.dataTransfer);
  if (weights) begin(weights);
  else open(event.dataTransfer.files[0]);
});
addEventListener('resize', () => stage.draw());

$('examples').replaceChildren(...EXAMPLES.map((example) => {
  const entry = document.createElement('li');
  const button = Object.assign(document.createElement('button'), { type: 'button' });
  const picture = drawn(example);
  picture.setAttribute('aria-hidden', 'true');
  button.append(picture, Object.assign(document.createElement('span'), { textContent: example.name }));
  button.addEventListener('click', async () => open(await exampleFile(example), model && !model.sentences ? [] : example.sentences));
  entry.append(button);
  return entry;
}));

// Asks the engine what it is; `weights` are a model's files that were dropped onto the page.
async function begin(weights = null) {
  const say = (text) => { $('model').textContent = text; };
  try {
    model = weights ? await engine.load(weights, say) : await engine.info(say);
    say([model.name, model.method, model.engine].filter(Boolean).join(' · '));
    $('ask').hidden = !model.sentences;
    if (!model.sentences) $('none').textContent = 'This model takes clicks: click into the image to mask what is there.';
    document.querySelector('.tools .segmented').hidden = !model.points;
    if (weights) askAgain();
  } catch (error) {
    say(model ? [model.name, model.method, model.engine].filter(Boolean).join(' · ') : '');
    failed(error, () => begin(weights));
  }
}

// Another model: the image is read and every sentence asked anew.
function askAgain() {
  if (!image) return;
  const { file, bitmap } = image;
  image = null;
  for (const item of items) item.answer = item.mask = item.painted = undefined;
  render();
  embed(file, bitmap, ++loading);
}

if (engine.local) {
  document.querySelectorAll('[data-copy="curl"], [data-copy="python"]').forEach((button) => { button.hidden = true; });
  $('where').textContent = 'JPEG, PNG or WebP. It never leaves this browser. A model of your own (an exported folder) can be dropped here, too.';
}
begin();
