/**
 * Runs once before any test: the NATS server that many tests start must be there. Where it has to be fetched, that is
 * done here and once; where it cannot be had, the run fails with a text that says how to get one. And the folder for the
 * built package, which the first file that wants it fills, is named.
 */
import { prepareBuild } from "./support/build.ts";
import { findServer } from "./support/nats-binary.ts";

export async function setup(): Promise<() => Promise<void>> {
  const onFetch = (): void => console.log("Fetching nats-server out of the distribution's packages …");
  const { notes } = await findServer({ onFetch });
  for (const note of notes) console.warn(`Passed over: ${note}`);
  return prepareBuild();
}
