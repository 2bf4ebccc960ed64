/** Element type of a tensor, as numpy names it. */
export type DType =
  | "float32"
  | "float64"
  | "float16"
  | "bool"
  | "int8"
  | "uint8"
  | "int16"
  | "uint16"
  | "int32"
  | "uint32"
  | "int64"
  | "uint64";

/** What holds the elements: float16 as its bits in a Uint16Array, bool as 0 and 1 in a Uint8Array. */
export type TensorData =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** An input or output: contiguous, row-major. */
export interface TensorSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** Why a layer was compiled as it was. */
export interface Decision {
  readonly reason: string;
  /** Fraction of zero weights. */
  readonly zeros?: number;
  /** Rows of one group of the sparse format. */
  readonly group?: number;
  readonly [key: string]: unknown;
}

/** An operator of the compiled model. */
export interface Layer {
  readonly name: string;
  readonly op: string;
  readonly output_shape: readonly number[];
  readonly macs: number;
  readonly nonzero_macs: number;
  readonly decision: Decision;
  /** First and last (exclusive) step. */
  readonly steps: readonly [number, number];
}

/** Two modules with the same instructions, for one thread and for several. */
export interface Build {
  readonly simd: Simd;
  readonly features: readonly string[];
  readonly module: string;
  readonly threads: string;
}

export type Simd = "simd128" | "relaxed-simd";

/** The contents of manifest.json, schema 1. */
export interface Manifest {
  readonly schema: 1;
  readonly edgesparse: string;
  readonly name: string;
  readonly model_sha256: string;
  readonly target: {
    readonly name: string;
    readonly triple: string;
    readonly cpu: string;
    readonly features: readonly string[];
    readonly lanes: number;
    readonly required: readonly string[];
  };
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  readonly arena_bytes: number;
  readonly arena_bound_bytes: number;
  readonly weights_bytes: number;
  readonly weights_sha256: string;
  /** What a session chooses from, best first. */
  readonly builds: readonly Build[];
  /** The weights are in the modules. */
  readonly embedded?: boolean;
  /** Only a manifest.json has them: what a module says of itself is all but the files. */
  readonly files?: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
  readonly layers: readonly Layer[];
}

/** The contents of a bundle, for programs that load them by themselves. */
export interface BundleContents {
  /** One of the modules for one thread, e.g. model.wasm. */
  readonly wasm?: ArrayBuffer | ArrayBufferView | WebAssembly.Module;
  /** One of the modules for several, e.g. model.threads.wasm. */
  readonly threadsWasm?: ArrayBuffer | ArrayBufferView | WebAssembly.Module;
  /** weights.bin, unless it is embedded. */
  readonly weights?: ArrayBuffer | ArrayBufferView;
  /** By default what the module says of itself, which is all but the files. */
  readonly manifest?: Manifest;
}

export interface LoadOptions {
  /**
   * How many threads share the work, 1 to 64; 1 by default. Several need shared memory: in a page, the
   * headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp.
   * Without it there is one warning on the console, and one thread.
   */
  readonly threads?: number;
  /** Which build, by default the best one that this engine can run; all give the same up to rounding. */
  readonly simd?: Simd;
  /** Told how many bytes of the module and the weights are here. */
  readonly onProgress?: (progress: { readonly loaded: number; readonly total: number }) => void;
  /** Aborts loading: `load` then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A typed array, or an object around one, e.g. onnxruntime-web's Tensor, whose shape is then checked. */
export type TensorInput =
  | TensorData
  | { readonly data: TensorData; readonly dims: readonly number[] }
  | { readonly data: TensorData; readonly shape: readonly number[] };

/** RGBA, four bytes a pixel, row by row: ImageData is one. */
export interface Image {
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly width: number;
  readonly height: number;
}

export interface PlanesOptions {
  /** Subtracted from value / 255: one number, or one for each channel; 0 by default. */
  readonly mean?: number | readonly number[];
  /** What that is divided by; 1 by default. */
  readonly std?: number | readonly number[];
}

/** What every failure of this module is. */
export class ModelError extends Error {
  readonly name: "ModelError";
  readonly code: "bundle" | "weights" | "simd" | "input" | "memory" | "threads" | "closed" | "model";
  private constructor();
}

/** A loaded model, with its weights, its arena and its tensors in its own memory. */
export class Session {
  /** Loads a bundle from its folder (by default the folder of this module) or from its contents. */
  static load(source?: string | URL | BundleContents, options?: LoadOptions): Promise<Session>;
  private constructor();

  /** Name of the model. */
  readonly name: string;
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
  /** How every layer was compiled and why, in order. */
  readonly decisions: readonly Layer[];
  readonly manifest: Manifest;
  /** Number of steps of one run. */
  readonly stepCount: number;

  /** How many threads share the work. */
  readonly threads: number;
  /** What runs: the instructions, and `threads` where there are several. */
  readonly backend: Simd | `${Simd}, threads`;
  /** Why nothing better runs: a sentence for each thing that was wanted and is missing. */
  readonly notes: readonly string[];

  /** Returns a zeroed typed array of the right type and length for every input. */
  createInputs(): Record<string, TensorData>;
  /**
   * Runs the model once; rejects with a `ModelError` on wrong names, lengths or types, and after `close`.
   * Runs are served in the order of their calls, each whole before the next: none sees another's inputs.
   */
  run(inputs: Readonly<Record<string, TensorInput>>): Promise<Record<string, TensorData>>;
  /** Copies every input into the model's memory, where it stays for any number of `runSteps`. */
  setInputs(inputs: Readonly<Record<string, TensorInput>>): void;
  /** Runs steps first <= step < last, all by default, on the inputs that were set. */
  runSteps(first?: number, last?: number): void;
  /** Returns a copy of every output. */
  getOutputs(): Record<string, TensorData>;
  /**
   * Returns an image of just the input's size as the planes of the first input, (value / 255 - mean) / std:
   * R, G and B, or their luma where the input has one channel.
   */
  planes(image: Image, options?: PlanesOptions): Float32Array;
  /** Ends the workers and frees the memory. */
  close(): void;
}
