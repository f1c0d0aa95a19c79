/** Checks of events, for actors that need no schema library: the smallest Standard Schema there is. */
import type { EventSchema } from "keyturn";

/** @param fault what is wrong with an event: the property's name and what it must be; undefined if it is right */
export function checked<E>(
  fault: (event: E) => readonly [property: string, message: string] | undefined,
): EventSchema {
  return {
    "~standard": {
      version: 1,
      vendor: "keyturn",
      validate(event) {
        const found = fault(event as E);
        return found === undefined ? {} : { issues: [{ path: [found[0]], message: found[1] }] };
      },
    },
  };
}
