/**
 * The two models: a linear support vector machine and a small neural network. Plain arithmetic; nothing here knows of
 * actors.
 *
 * A model's parameters are one flat list of numbers. The weights of one pixel lie together, so that a pixel without ink,
 * as four of five are, costs nothing. The same numbers in give the same numbers out, bit by bit, wherever it runs.
 */
import { CLASSES, PIXELS } from "./digits.ts";
import { randomOf } from "./random.ts";

export interface Model {
  /** For people. */
  readonly title: string;
  /** How many parameters it has. */
  readonly size: number;
  /** Length of a step: what part of the gradient of one digit is taken off the parameters. */
  readonly rate: number;
  /** The parameters before any training. */
  first(seed: number): Float32Array;
  /** One score a class; the highest is what is read. */
  scores(parameters: Float32Array, pixels: Uint8Array): Float32Array;
  /** Takes a step towards reading this digit right; changes the parameters in place. Returns the loss before it. */
  learn(parameters: Float32Array, pixels: Uint8Array, label: number, rate: number): number;
}

/** Ink is from 0 to 1. */
const INK = 1 / 255;

/** Ten lines, one a class, each to have its own digits on one side, with a margin, and all others on the other. */
const svm: Model = {
  title: "linear SVM",
  size: (PIXELS + 1) * CLASSES,
  rate: 0.01,
  first: () => new Float32Array((PIXELS + 1) * CLASSES),
  scores: (parameters, pixels) => layer(parameters, 0, pixels, CLASSES),
  learn(parameters, pixels, label, rate) {
    const scores = layer(parameters, 0, pixels, CLASSES);
    let loss = 0;
    const slope = scores.map((score, digit) => {
      const side = digit === label ? 1 : -1;
      const missing = 1 - side * score;
      if (missing <= 0) return 0;
      loss += missing;
      return -side;
    });
    descend(parameters, 0, pixels, slope, rate);
    return loss;
  },
};

const HIDDEN = 32;
/** Where the second layer's parameters begin. */
const SECOND = (PIXELS + 1) * HIDDEN;

/** One hidden layer of rectified linear units; softmax and cross-entropy at the end. */
const network: Model = {
  title: `neural net ${PIXELS}-${HIDDEN}-${CLASSES}`,
  size: SECOND + (HIDDEN + 1) * CLASSES,
  rate: 0.05,
  first(seed) {
    const random = randomOf(seed, 0);
    const spread = (width: number): number => (2 * random() - 1) * Math.sqrt(6 / width);
    const parameters = new Float32Array(network.size);
    for (let at = 0; at < PIXELS * HIDDEN; at++) parameters[at] = spread(PIXELS);
    for (let at = 0; at < HIDDEN * CLASSES; at++) parameters[SECOND + at] = spread(HIDDEN);
    return parameters;
  },
  scores: (parameters, pixels) =>
    layer(parameters, SECOND, rectified(layer(parameters, 0, pixels, HIDDEN)), CLASSES),
  learn(parameters, pixels, label, rate) {
    const hidden = rectified(layer(parameters, 0, pixels, HIDDEN));
    const share = softmax(layer(parameters, SECOND, hidden, CLASSES));
    const loss = -Math.log(Math.max(share[label] as number, 1e-7));
    const slope = share.map((part, digit) => part - (digit === label ? 1 : 0));
    const back = hidden.map((value, unit) => {
      if (value === 0) return 0;
      let sum = 0;
      for (let digit = 0; digit < CLASSES; digit++)
        sum += (parameters[SECOND + unit * CLASSES + digit] as number) * (slope[digit] as number);
      return sum;
    });
    descend(parameters, SECOND, hidden, slope, rate);
    descend(parameters, 0, pixels, back, rate);
    return loss;
  },
};

export const models = { svm, network } as const satisfies Record<string, Model>;

export type ModelName = keyof typeof models;

type Inputs = Uint8Array | Float32Array;

/** What a layer of weights and biases, from `start` on, makes of its inputs. */
function layer(parameters: Float32Array, start: number, inputs: Inputs, width: number): Float32Array {
  const biases = start + inputs.length * width;
  const outputs = parameters.slice(biases, biases + width);
  const scale = inputs instanceof Uint8Array ? INK : 1;
  for (let input = 0; input < inputs.length; input++) {
    const value = (inputs[input] as number) * scale;
    if (value === 0) continue;
    const row = start + input * width;
    for (let unit = 0; unit < width; unit++)
      outputs[unit] = (outputs[unit] as number) + value * (parameters[row + unit] as number);
  }
  return outputs;
}

/** Moves a layer's parameters against the slope of the loss in its outputs. */
function descend(
  parameters: Float32Array,
  start: number,
  inputs: Inputs,
  slope: Float32Array,
  rate: number,
): void {
  const width = slope.length;
  const scale = inputs instanceof Uint8Array ? INK : 1;
  const move = (row: number, step: number): void => {
    for (let unit = 0; unit < width; unit++)
      parameters[row + unit] = (parameters[row + unit] as number) - step * (slope[unit] as number);
  };
  for (let input = 0; input < inputs.length; input++) {
    const value = (inputs[input] as number) * scale;
    if (value !== 0) move(start + input * width, rate * value);
  }
  move(start + inputs.length * width, rate);
}

function rectified(values: Float32Array): Float32Array {
  return values.map((value) => Math.max(0, value));
}

function softmax(scores: Float32Array): Float32Array {
  const highest = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

/** What is read: the class with the highest score. */
export function classOf(scores: Float32Array): number {
  return scores.indexOf(Math.max(...scores));
}
