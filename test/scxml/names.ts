/**
 * Names: how XState writes what SCXML calls by an id, an event's name or an event descriptor.
 *
 * Talks to nobody.
 */

/** An SCXML event descriptor or name as XState has it. */
export function machineNameOf(name: string): string {
  return name
    .replace(/^done(?=$|\.(state|invoke)(\.|$))/, "xstate.done")
    .replace(/^(xstate\.done\.)invoke/, "$1actor");
}

/** An id as part of a path: XState takes a bare dot for a step. */
export function escaped(id: string): string {
  return id.replace(/[\\.]/g, "\\$&");
}

/** How XState refers to a state by id. */
export function idOf(id: string): string {
  return `#${escaped(id)}`;
}

/** Without the `.*` or `.` that SCXML allows at the end of a descriptor. */
export function descriptorOf(text: string): string {
  const trimmed = text.replace(/\.?\*$/, "").replace(/\.$/, "");
  return trimmed === "" ? "*" : machineNameOf(trimmed);
}

/** Whether every event that one descriptor matches is matched by another. */
export function covers(wide: string, narrow: string): boolean {
  return wide === "*" || wide === narrow || narrow.startsWith(`${wide}.`);
}
