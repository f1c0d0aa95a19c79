/**
 * `keyturn/testing`: the test kit for your own actors, the simulator, to run them under a seed, and the checkers of
 * histories.
 */
export * from "./checkers/index.ts";
export * from "./kit/index.ts";
export * from "./simulator/index.ts";
