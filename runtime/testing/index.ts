/** `keyturn/testing`: the simulator, to run your own machines under a seed, and the checkers of histories. */
export * from "./checkers/index.ts";
export * from "./simulator/index.ts";
