/** Why a value cannot be kept, and where in it. Apart from values.ts, since browsers read values too. */
export class ValueFault extends Error {
  readonly path: string;
  constructor(path: string, problem: string) {
    const short = path.length > 120 ? `${path.slice(0, 120)}…` : path;
    super(`${short} ${problem}`);
    this.path = short;
  }
}
