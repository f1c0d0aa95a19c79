/**
 * Server-sent events out of a response that is read with `fetch`, since a browser's own EventSource sends no token.
 *
 * Owns the parsing, as the HTML standard has it: lines end with CR, LF or both, also across pieces; a comment shows only
 * that the stream lives. Talks to nobody.
 */

/** One event with data. */
export interface StreamEvent {
  readonly event: string;
  readonly data: string;
  /** The last id that the stream has told; undefined before the first one. */
  readonly id: string | undefined;
}

/** The largest state there can be, with room to spare. */
const EVENT_MAX = 16 * 1024 * 1024;

const LINE_END = /\r\n?|\n/g;

/** Puts pieces of text together to events. */
export class EventParser {
  #rest = "";
  #data: string[] = [];
  #event = "";
  #id: string | undefined;

  /** The last id that was told, also by itself; undefined before the first one. */
  get lastId(): string | undefined {
    return this.#id;
  }

  /** @throws Error for an event that never ends */
  *feed(piece: string): Generator<StreamEvent> {
    const text = this.#rest + piece;
    // What is left of former pieces has no end, but for a CR that may be half of one.
    LINE_END.lastIndex = Math.max(0, this.#rest.length - 1);
    let from = 0;
    for (let end = LINE_END.exec(text); end !== null; end = LINE_END.exec(text)) {
      const next = LINE_END.lastIndex;
      // The other half may be in the next piece.
      if (end[0] === "\r" && next === text.length) break;
      const event = this.#line(text.slice(from, end.index));
      from = next;
      if (event !== undefined) yield event;
      LINE_END.lastIndex = next;
    }
    this.#rest = text.slice(from);
    if (this.#rest.length > EVENT_MAX) throw new Error("The stream has an event that does not end.");
  }

  #line(line: string): StreamEvent | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined;
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    return undefined;
  }

  #dispatch(): StreamEvent | undefined {
    const [data, event] = [this.#data, this.#event];
    this.#data = [];
    this.#event = "";
    if (data.length === 0) return undefined;
    return { event: event === "" ? "message" : event, data: data.join("\n"), id: this.#id };
  }
}

/**
 * Reads events until the stream ends.
 * @param heard called whenever anything has come, be it a comment
 * @param known called when all that had come is taken, with the last id
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  heard: () => void,
  known?: (lastId: string | undefined) => void,
): AsyncGenerator<StreamEvent> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      yield* parser.feed(decoder.decode(value, { stream: true }));
      known?.(parser.lastId);
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}
