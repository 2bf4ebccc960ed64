/** Asks a worker, so that the page never waits for the model. */
const worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
const answer = document.getElementById("answer");

worker.addEventListener("message", ({ data }) => (answer.textContent = data));
document.getElementById("file").addEventListener("change", async ({ target }) => {
  const picture = await createImageBitmap(target.files[0]);
  worker.postMessage(picture, [picture]);
});
