/**
 * Maps and Sets as values: how one is kept from changing.
 *
 * Owns the methods that stand before those of a sealed Map or Set. `Object.freeze` alone does not hold their entries.
 * Talks to nobody.
 *
 * Invariant: after `guard` and `Object.freeze`, what changes a Map or Set through its own methods throws a TypeError
 * where it is written, and changes nothing. It is still equal to one that is not guarded: the methods are not enumerable.
 */

/** The text is of the family that engines throw for frozen objects: who recognises one recognises the other. */
const refused = (what: string, how: string) => (): never => {
  throw new TypeError(
    `Cannot assign to read only property: a ${what} in a context, event or reply never changes in place. Make a new one: ${how}.`,
  );
};

const never = (what: string, how: string) => ({ value: refused(what, how) });
const onMap = never("Map", "new Map(before), and change that");
const onSet = never("Set", "new Set(before), and change that");
const mapMethods = { set: onMap, delete: onMap, clear: onMap };
const setMethods = { add: onSet, delete: onSet, clear: onSet };
/** What libraries that freeze Maps and Sets put before all four methods. */
const guarded: readonly PropertyKey[] = ["set", "add", "delete", "clear"];

export type Collection = ReadonlyMap<unknown, unknown> | ReadonlySet<unknown>;

/** What keeps a Map or Set from being a value that can be stored, or undefined. */
export function collectionProblem(value: Collection): string | undefined {
  const own = Reflect.ownKeys(value);
  if (own.some((name) => !guarded.includes(name)))
    return "is a Map or Set with properties of its own, which would be lost. Keep its entries only.";
  if (Object.isExtensible(value) || isGuarded(value)) return undefined;
  return "is a Map or Set that was frozen, which does not hold its entries. Give it as it is, or a copy.";
}

/** Puts the methods that throw before its own. Call `Object.freeze` afterwards. */
export function guard(value: Collection): void {
  if (!Object.isExtensible(value)) return;
  Object.defineProperties(value, value instanceof Map ? mapMethods : setMethods);
}

function isGuarded(value: Collection): boolean {
  const methods = value instanceof Map ? mapMethods : setMethods;
  return Object.keys(methods).every((name) => Object.hasOwn(value, name));
}
