/**
 * Elements of pages, in functions that tests have run in a browser: whatever they have. Node's programs are checked without
 * the DOM's types; React's own types name its interfaces, and leave them empty.
 */
interface Element {
  // biome-ignore lint/suspicious/noExplicitAny: of a world whose types are not there
  readonly [name: string]: any;
}
