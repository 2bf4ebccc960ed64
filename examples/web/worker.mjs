/** Holds the session: `edgesparse compile model.onnx --target wasm -o examples/web/model`. */
import { Session } from "./model/index.mjs";

const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

function tell(error) {
  postMessage(`${error.name}: ${error.message}`);
}

const loading = Session.load(undefined, {
  threads: navigator.hardwareConcurrency >= 2 ? 2 : 1,
  onProgress: ({ loaded, total }) => postMessage(`Loading ${Math.round((100 * loaded) / total)} %`),
});
loading.then((session) => postMessage(`${session.name} is ready, ${session.backend}`), tell);

/** Pixels of a picture, stretched to the size of the model's input. */
function pixelsOf(picture, [, , height, width]) {
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

async function classify(picture) {
  const session = await loading;
  const [[input], [output]] = [session.inputs, session.outputs];
  const [, channels] = input.shape;
  const planes = session.planes(pixelsOf(picture, input.shape), channels === 3 ? IMAGENET : {});
  const start = performance.now();
  const scores = (await session.run({ [input.name]: planes }))[output.name];
  const best = scores.indexOf(Math.max(...scores));
  return `class ${best}, ${(performance.now() - start).toFixed(1)} ms`;
}

addEventListener("message", ({ data }) => classify(data).then(postMessage, tell));
