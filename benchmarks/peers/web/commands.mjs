// The runner's line protocol for a JavaScript engine, in node (serve.mjs) and in a page (page.mjs).
//
// An engine is { version, prepare(arrays), run(inputs), finish(outputs) }; finish answers with one
// Float32Array an output, in the model's order. Only run is timed.
// A host is { now, read, write }: nanoseconds, the bytes of a file, and a file written.

const sizeOf = ({ shape }) => shape.reduce((a, b) => a * b, 1);

function pseudoRandom(length) {
  const values = new Float32Array(length);
  let state = 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2147483648 - 1;
  }
  return values;
}

function timerResolution(now) {
  let smallest = Infinity;
  for (let i = 0; i < 200; i++) {
    const start = now();
    let end = start;
    while (end === start) end = now();
    smallest = Math.min(smallest, end - start);
  }
  return Math.round(smallest);
}

export class Served {
  constructor(engine, shapes, host, openMs) {
    Object.assign(this, { engine, shapes, host });
    this.timed = engine.prepare(shapes.inputs.map((tensor) => pseudoRandom(sizeOf(tensor))));
    this.ready = {
      ready: true,
      open_ms: openMs,
      timer_resolution_ns: timerResolution(host.now),
      step_count: 0,
      version: engine.version,
    };
  }

  async answer(line) {
    const [command, ...words] = line.trim().split(/\s+/);
    try {
      if (command === "bench") return await this.bench(Number(words[0]), Number(words[1] ?? 1));
      if (command === "run") return await this.run(Number(words[0]), words[1], words[2]);
      return { error: `unknown command ${command}` };
    } catch (error) {
      return { error: String(error) };
    }
  }

  async bench(count, batch) {
    const { engine, timed, host } = this;
    const samples = [];
    for (let i = 0; i < count; i++) {
      const start = host.now();
      for (let k = 0; k < batch; k++) await engine.run(timed);
      samples.push((host.now() - start) / batch);
    }
    return { samples_ns: samples };
  }

  async run(count, source, sink) {
    const { buffer, byteOffset } = await this.host.read(source);
    const chunks = [];
    let offset = byteOffset;
    for (let i = 0; i < count; i++) {
      const arrays = this.shapes.inputs.map((tensor) => {
        const size = 4 * sizeOf(tensor);
        const array = new Float32Array(buffer.slice(offset, offset + size));
        offset += size;
        return array;
      });
      for (const output of this.engine.finish(await this.engine.run(this.engine.prepare(arrays)))) {
        chunks.push(new Uint8Array(output.slice().buffer));
      }
    }
    await this.host.write(sink, new Blob(chunks));
    return { ran: count };
  }
}
