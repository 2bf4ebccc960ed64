/**
 * Runs a model that edgesparse compiled to WebAssembly, in browsers, workers and node >= 18.
 *
 *     import { Session } from "./index.mjs";
 *     const session = await Session.load();
 *     const { y } = await session.run({ x: new Float32Array(3 * 224 * 224) });
 */

import { ARRAY_TYPES, openBundle, toBytes } from "./bundle.mjs";
import { CONTROL_WORDS, ModelError, PAGE_BYTES, STACK_BYTES, TEAM_BYTES, attempt } from "./shared.mjs";
import { Team, sharedMemory } from "./threads.mjs";

export { ModelError };

const ALIGNMENT_BYTES = 64;

/** A loaded model, with its weights, its arena and its tensors in its own memory. */
export class Session {
  #exports;
  #memory;
  #team;
  #pointers;
  #tensors;
  #arguments;

  /**
   * Loads a bundle.
   *
   * @param source URL or path of the bundle's folder (by default the folder of this module), or
   *     `{wasm, weights}` with their contents, maybe `threadsWasm` and `manifest`.
   * @param options `threads`: how many share the work, 1 by default; one, with a warning, where no
   *     memory can be shared. `simd`: which build, by default the best one this engine can run.
   *     `onProgress`: called with `{loaded, total}` in bytes. `signal`: aborts loading.
   */
  static async load(source, { threads = 1, simd, onProgress, signal } = {}) {
    signal?.throwIfAborted();
    const opened = await openBundle(source, { threads, simd, onProgress, signal });
    const session = new Session(opened);
    try {
      await session.#open(opened);
      signal?.throwIfAborted();
      return session;
    } catch (error) {
      session.close();
      throw error;
    }
  }

  /** Use `Session.load`. What a session tells of itself never changes. */
  constructor({ manifest, threads, simd, notes }) {
    const { name, inputs, outputs, layers } = manifest;
    Object.assign(this, {
      /** The parsed manifest.json. */
      manifest,
      /** Name of the model. */
      name,
      /** `{name, shape, dtype}` of every input and output, in order. */
      inputs,
      outputs,
      /** How every layer was compiled and why, in order; `steps` are its first and last (exclusive) step. */
      decisions: layers,
      /** Number of steps of one run. */
      stepCount: Math.max(0, ...layers.map((layer) => layer.steps[1])),
      /** How many threads share the work. */
      threads,
      /** What runs: `simd128` or `relaxed-simd`, and `threads` where there are several. */
      backend: simd + (threads > 1 ? ", threads" : ""),
      /** Why nothing better runs: a sentence for each thing that was wanted and is missing. */
      notes,
    });
    Object.freeze(this);
  }

  async #open({ module, fill, dataEnd }) {
    await (this.threads > 1 ? this.#instantiateShared(module, dataEnd) : this.#instantiateAlone(module));
    this.#placeTensors();
    const { weightsAt, teamAt, controlAt, stacksAt } = this.#pointers;
    const { es_verify_weights, es_team_init } = this.#exports;
    const [model] = this.#arguments;
    const view = new Uint8Array(this.#memory.buffer, weightsAt, this.manifest.weights_bytes);
    await fill(view, () => {
      const status = es_verify_weights(model, weightsAt, BigInt(view.length));
      this.#check(status, "weights", "opening the weights");
    });
    if (this.#team) {
      es_team_init(teamAt, this.threads);
      const order = { module, memory: this.#memory, team: teamAt, model: this.#arguments };
      await this.#team.start(order, this.threads, controlAt, stacksAt);
    }
  }

  async #instantiateAlone(module) {
    const { exports } = await WebAssembly.instantiate(module);
    this.#memory = exports.memory;
    const { end } = this.#settle(exports);
    const missing = Math.max(0, end - this.#memory.buffer.byteLength);
    await allocating(end, () => this.#memory.grow(Math.ceil(missing / PAGE_BYTES)));
  }

  /** The size of a shared memory is fixed before there is an instance to ask where its data end. */
  async #instantiateShared(module, dataEnd) {
    const { end } = layOut(dataEnd, this);
    const pages = Math.ceil(end / PAGE_BYTES);
    this.#memory = await allocating(end, () => sharedMemory(pages));
    this.#team = new Team(this.#memory);
    this.#settle(await this.#team.instantiate(module, this.#memory));
  }

  #settle(exports) {
    this.#exports = exports;
    this.#pointers = layOut(exports.__heap_base.value, this);
    return this.#pointers;
  }

  /** Returns a zeroed typed array of the right type and length for every input: name -> typed array. */
  createInputs() {
    return Object.fromEntries(
      this.inputs.map((spec) => [spec.name, new ARRAY_TYPES[spec.dtype](elementCount(spec))]),
    );
  }

  /** Runs the model once: input name -> typed array in, output name -> new typed array out. */
  async run(inputs) {
    this.setInputs(inputs);
    this.runSteps();
    return this.getOutputs();
  }

  /** Copies every input into the model's memory, where it stays for any number of `runSteps`. */
  setInputs(inputs) {
    this.#requireOpen();
    if (Object(inputs) !== inputs) {
      throw new ModelError("input", "expected an object with one typed array for each input");
    }
    const names = this.inputs.map((spec) => spec.name);
    const unknown = Object.keys(inputs).filter((name) => !names.includes(name));
    if (unknown.length > 0) {
      throw new ModelError("input", `unknown input ${unknown.join(", ")}: expected ${names.join(", ")}`);
    }
    const arrays = this.inputs.map((spec) => checkInput(spec, inputs[spec.name]));
    arrays.forEach((array, i) => this.#tensors.inputs[i].set(array));
  }

  /** Runs steps first <= step < last, all by default, on the inputs that were set. Synchronous. */
  runSteps(first = 0, last = this.stepCount) {
    this.#requireOpen();
    const isWithin = first >= 0 && first <= last && last <= this.stepCount;
    const status = this.#team && isWithin
      ? this.#runTogether(first, last)
      : this.#exports.es_run_steps(...this.#arguments, isWithin ? first : -1, last);
    this.#check(status, "model", "running the model");
  }

  /** Returns a copy of every output: name -> typed array. */
  getOutputs() {
    this.#requireOpen();
    return Object.fromEntries(this.outputs.map((spec, i) => [spec.name, this.#tensors.outputs[i].slice()]));
  }

  /**
   * Returns an image as the planes of the model's first input: (value / 255 - mean) / std.
   *
   * @param image ImageData, or `{data, width, height}`, RGBA, of just the input's size.
   * @param options `mean` and `std`: of every channel, or of all; 0 and 1 by default.
   */
  planes({ data, width, height }, { mean = 0, std = 1 } = {}) {
    this.#requireOpen();
    const [spec] = this.inputs;
    const [, channels, rows, columns] = spec.shape;
    if (!this.#exports.es_image_planes) {
      throw new ModelError("input", `input ${spec.name} is no image: expected float32, 1x3xHxW or 1x1xHxW`);
    }
    const bytes = toBytes(data, "image");
    if (width !== columns || height !== rows || bytes.length !== 4 * rows * columns) {
      const found = `${width}x${height} with ${bytes.length} bytes`;
      throw new ModelError("input", `image: expected ${columns}x${rows}, RGBA, found ${found}`);
    }
    const { buffer } = this.#memory;
    const { scaleAt, rgbaAt, planesAt } = this.#pointers;
    const scale = new Float32Array(buffer, scaleAt, 2 * channels);
    for (let c = 0; c < channels; c++) {
      const [m, s] = [mean, std].map((value) => (value?.length === channels ? value[c] : +value));
      scale.set([1 / (255 * s), -m / s], 2 * c);
    }
    if (!scale.every(Number.isFinite)) {
      throw new ModelError("input", `image: expected ${channels} finite numbers each as mean and std`);
    }
    new Uint8Array(buffer, rgbaAt, bytes.length).set(bytes);
    this.#exports.es_image_planes(rgbaAt, scaleAt, planesAt);
    return new Float32Array(buffer, planesAt, elementCount(spec)).slice();
  }

  /** Ends the workers and frees the memory; everything that runs afterwards is refused. */
  close() {
    this.#team?.close();
    this.#team = this.#memory = this.#exports = this.#tensors = this.#arguments = null;
  }

  /** Runs this thread's share and returns when all are done. A session that lost a worker is closed. */
  #runTogether(first, last) {
    try {
      this.#team.post(first, last);
      return this.#exports.es_run_thread(...this.#arguments, this.#pointers.teamAt, 0, first, last);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #requireOpen() {
    if (!this.#exports) {
      throw new ModelError("closed", "the session is closed");
    }
  }

  #placeTensors() {
    const { buffer } = this.#memory;
    const { weightsAt, arenaAt, inputsAt, outputsAt, inputTableAt, outputTableAt } = this.#pointers;
    const views = (specs, tableAt, tensorsAt) => {
      new Uint32Array(buffer, tableAt, specs.length).set(tensorsAt);
      return specs.map((spec, i) => new ARRAY_TYPES[spec.dtype](buffer, tensorsAt[i], elementCount(spec)));
    };
    this.#tensors = {
      inputs: views(this.inputs, inputTableAt, inputsAt),
      outputs: views(this.outputs, outputTableAt, outputsAt),
    };
    const model = this.#exports.es_default_model();
    this.#arguments = [model, weightsAt, arenaAt, inputTableAt, outputTableAt];
  }

  /** Throws what a status that is not 0 means. */
  #check(status, code, doing) {
    if (status !== 0) {
      const bytes = new Uint8Array(this.#memory.buffer, this.#exports.es_status_text(status));
      const text = new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
      throw new ModelError(code, `${doing}: ${text}`);
    }
  }
}

/** Gives everything an aligned address from `base` on. */
function layOut(base, { inputs, outputs, manifest, threads }) {
  let top = base;
  const reserve = (bytes) => {
    const at = Math.ceil(top / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
    top = at + bytes;
    return at;
  };
  const pointers = {
    inputTableAt: reserve(4 * inputs.length),
    outputTableAt: reserve(4 * outputs.length),
    inputsAt: inputs.map((spec) => reserve(byteCount(spec))),
    outputsAt: outputs.map((spec) => reserve(byteCount(spec))),
    weightsAt: reserve(manifest.weights_bytes),
    teamAt: reserve(TEAM_BYTES),
    controlAt: reserve(4 * CONTROL_WORDS),
    stacksAt: reserve(STACK_BYTES * (threads - 1)),
    arenaAt: reserve(0),
  };
  // The arena is free between runs: an image is made into planes there.
  const [, , rows = 0, columns = 0] = inputs[0]?.shape ?? [];
  pointers.scaleAt = reserve(ALIGNMENT_BYTES);
  pointers.rgbaAt = reserve(4 * rows * columns);
  pointers.planesAt = reserve(inputs.length && byteCount(inputs[0]));
  return { ...pointers, end: Math.max(top, pointers.arenaAt + manifest.arena_bytes) + ALIGNMENT_BYTES };
}

function allocating(bytes, allocate) {
  return attempt("memory", `the model needs ${bytes} bytes of memory`, null, allocate);
}

/** The array of a tensor: itself, or `data` of an object whose `dims` or `shape` must then fit. */
function checkInput(spec, value) {
  const ArrayType = ARRAY_TYPES[spec.dtype];
  const shape = spec.shape.join("x");
  const expected = `input ${spec.name}: expected a ${ArrayType.name} of ${elementCount(spec)} elements`;
  const array = ArrayBuffer.isView(value?.data) ? value.data : value;
  const given = array === value ? shape : [value.dims ?? value.shape].flat().join("x");
  // Not instanceof, see toBytes.
  if (array?.[Symbol.toStringTag] !== ArrayType.name) {
    throw new ModelError("input", `${expected}, found ${array?.constructor?.name ?? array}`);
  }
  if (array.length !== elementCount(spec) || given !== shape) {
    const found = given === shape ? array.length : `shape ${given}`;
    throw new ModelError("input", `${expected} (shape ${shape}), found ${found}`);
  }
  return array;
}

function elementCount(spec) {
  return spec.shape.reduce((product, extent) => product * extent, 1);
}

function byteCount(spec) {
  return elementCount(spec) * ARRAY_TYPES[spec.dtype].BYTES_PER_ELEMENT;
}
