/** What the page shows. `edgesparse demo --serve` writes another one, with more than one model. */
export { Session } from "../index.mjs";

/** Models that answer the same inputs, the one that is drawn for first. */
export const models = [{ label: "this model", folder: new URL("..", import.meta.url) }];

/** The same network at several shares of zeros, `{zeros, folder}`. */
export const curve = [];
