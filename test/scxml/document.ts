/**
 * An SCXML document as elements.
 *
 * Owns the reading of XML and of what an SCXML element says in a form of its own: times, lists of ids, texts, files.
 * Talks to the XML parser and to the folder in which the document lies.
 */
import { readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { DOMParser, type Element as XmlElement } from "@xmldom/xmldom";

export type { XmlElement };

/** Why a document has no machine. */
export class ConversionError extends Error {
  override readonly name = "ConversionError";
}

/** The root element of a document. Throws a ConversionError if it is no XML or no SCXML. */
export function parseDocument(text: string): XmlElement {
  let root: XmlElement | null;
  try {
    const strict = (level: "warning" | "error" | "fatalError", message: string): void => {
      if (level !== "warning") throw new ConversionError(message);
    };
    root = new DOMParser({ onError: strict }).parseFromString(text.trim(), "text/xml").documentElement;
  } catch (cause) {
    throw new ConversionError("is not XML", { cause });
  }
  if (root?.localName !== "scxml") throw new ConversionError("is not an SCXML document");
  return root;
}

/** The child elements of some names, or all, in document order. */
export function childrenOf(element: XmlElement, ...names: readonly string[]): XmlElement[] {
  const children: XmlElement[] = [];
  for (let node = element.firstChild; node !== null; node = node.nextSibling) {
    if (node.nodeType !== node.ELEMENT_NODE) continue;
    const child = node as XmlElement;
    if (names.length === 0 || names.includes(nameOf(child))) children.push(child);
  }
  return children;
}

export function nameOf(element: XmlElement): string {
  return element.localName ?? element.tagName;
}

/** An attribute, undefined if it is not there or empty. */
export function attribute(element: XmlElement, name: string): string | undefined {
  const value = element.getAttribute(name);
  return value === null || value.trim() === "" ? undefined : value;
}

export function words(text: string | undefined): string[] {
  return text === undefined ? [] : text.trim().split(/\s+/);
}

/** What stands between an element's tags: XML as it is, or a text. */
export function textIn(element: XmlElement): string | undefined {
  if (childrenOf(element).length > 0) {
    return childrenOf(element)
      .map((child) => child.toString())
      .join("");
  }
  const text = element.textContent ?? "";
  return text.trim() === "" ? undefined : text;
}

/** A text in the form in which SCXML makes it a value: without white space that only lays it out. */
export function normalized(text: string): string {
  return text.trim().replace(/\s+/g, " ");
}

/** Milliseconds of a CSS2 time. Throws if it is none. */
export function milliseconds(time: string): number {
  const parts = /^\s*\+?(\d*\.?\d+)\s*(ms|s)?\s*$/.exec(time);
  if (parts === null) throw new Error(`"${time}" is not a time.`);
  return Number(parts[1]) * (parts[2] === "s" ? 1_000 : 1);
}

/** A file that a document names by `file:` or a relative path. */
export function readBeside(folder: string, source: string): string {
  const path = normalize(source.replace(/^file:(\/\/)?/, ""));
  if (/^[a-z]+:/.test(path) || path.startsWith("..") || path.startsWith("/"))
    throw new ConversionError(`names ${source}, which does not lie beside it`);
  try {
    return readFileSync(join(folder, path), "utf8");
  } catch (cause) {
    throw new ConversionError(`names ${source}, which is not there`, { cause });
  }
}
