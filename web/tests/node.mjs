// The package in Node: node web/tests/node.mjs PACKAGE MODEL PROGRAM
//   Masks of 24 scenes are the native program's but for rounding (MOST_PIXELS_APART); bad input is refused in words.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { MOST_PIXELS_APART, modelFiles, native, pixelsApart, questions, scene } from './scenes.mjs';

const [folder, modelFolder, program] = process.argv.slice(2).map((path) => resolve(path));
const { default: init, Model, version } = await import(pathToFileURL(`${folder}/node.js`));
const files = modelFiles(modelFolder);
const weights = Object.keys(files).find((name) => name.endsWith('.safetensors'));
// Where both are there, the run's config is read and the other one is for other programs.
const config = 'saymask.toml' in files ? 'saymask.toml' : 'config.json';
const refused = (call, what) => assert.throws(call, (error) => {
  assert.ok(error instanceof Error, `${error}`);
  assert.match(error.message, what);
  return true;
});

const tests = {
  async 'a model is loaded and says what it is'() {
    await init();
    const model = Model.load(files);
    model.warmUp();
    assert.match(model.method, /^(dit|evf|risam)$/);
    assert.match(version(), /^\d+\.\d+\.\d+/);
    model.free();
  },

  async 'masks of 24 scenes are the native program’s'() {
    const model = Model.load(files);
    const judge = await native(program, modelFolder);
    try {
      let found = 0, differ = 0;
      for (let seed = 0; seed < 24; seed++) {
        const image = scene(seed);
        const wanted = await judge.ask(image);
        const embedding = model.embed(image.rgba, image.width, image.height);
        assert.deepEqual([embedding.width, embedding.height], [image.width, image.height]);
        const masks = model.ask(embedding, questions(image));
        masks.forEach((mask, at) => {
          const apart = pixelsApart(mask.counts, wanted[at].counts);
          assert.ok(apart <= MOST_PIXELS_APART, `scene ${seed}, question ${at}: ${apart} pixels of ${mask.area} differ`);
          assert.equal(apart === 0, mask.counts === wanted[at].counts);
          differ += apart;
          assert.ok(Math.abs(mask.score - wanted[at].score) < 1e-3, `scene ${seed}: score ${mask.score}, natively ${wanted[at].score}`);
          assert.equal(mask.pixels().reduce((sum, pixel) => sum + pixel, 0), mask.area);
          found += mask.area > 0;
          mask.free();
        });
        embedding.free();
      }
      console.log(`    ${differ} pixels differ in 72 masks`);
      assert.ok(found > 12, `only ${found} masks hold anything: the model is too weak for this test`);
    } finally {
      judge.stop();
      model.free();
    }
  },

  async 'broken weights are refused in words'() {
    refused(() => Model.load({}), /is missing: given nothing/);
    refused(() => Model.load({ [weights]: files[weights] }), /config\.json: is missing/);
    refused(() => Model.load({ ...files, [weights]: new Uint8Array([1, 2, 3]) }), /./);
    refused(() => Model.load({ ...files, [weights]: files[weights].slice(0, -1000) }), /./);
    refused(() => Model.load({ ...files, [config]: new TextEncoder().encode('{') }), new RegExp(config));
    refused(() => Model.load({ ...files, [weights]: 'no bytes' }), /Uint8Array/);
    refused(() => Model.load(null), /Uint8Array/);
    // And nothing is broken by it.
    Model.load(files).free();
  },

  async 'questions that make no sense are refused in words'() {
    const model = Model.load(files);
    const embedding = model.embed(new Uint8Array(4 * 20 * 10).fill(90), 20, 10);
    refused(() => model.ask(embedding, [{ sentence: '' }]), /question 0: its sentence is empty/);
    refused(() => model.ask(embedding, [{ sentence: 'a' }, { sentence: '  ' }]), /question 1: its sentence is empty/);
    refused(() => model.ask(embedding, [{}]), /neither a sentence nor points/);
    refused(() => model.ask(embedding, [{ words: 'a' }]), /questions are/);
    refused(() => model.ask(embedding, undefined), /questions are/);
    if (model.points) refused(() => model.ask(embedding, [{ points: [[1, 1, 7]] }]), /./);
    assert.deepEqual(model.ask(embedding, []), []);
    refused(() => model.embed(new Uint8Array(7), 2, 1), /RGBA of that size has 8/);
    refused(() => model.embed(new Uint8Array(0), 0, 1), /./);
    refused(() => model.embed(new Uint8Array(0), 100000, 100000), /make it smaller/);
    model.free();
  },

  async 'a picture of 50 megapixels is read, and its masks are of its size'() {
    const model = Model.load(files);
    const [width, height] = [8192, 6144];
    const embedding = model.embed(new Uint8Array(4 * width * height).fill(120), width, height);
    const [mask] = model.ask(embedding, [{ sentence: 'the red circle' }]);
    assert.deepEqual([mask.width, mask.height], [width, height]);
    model.free();
  },
};

let failed = false;
for (const [name, test] of Object.entries(tests)) {
  try {
    await test();
    console.log(`ok  ${name}`);
  } catch (error) {
    failed = true;
    console.error(`FAILED  ${name}\n`, error);
  }
}
process.exit(failed ? 1 : 0);
