/** The readers of files: what they give, and that they go on anywhere with just what is left. */
import { once } from "node:events";
import { appendFileSync, copyFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parse } from "csv-parse/sync";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isKeyturnError } from "../runtime/index.ts";
import { csv, lines, ndjson, parquet, type SourceReader } from "../runtime/streams/index.ts";
import { rowItem } from "../runtime/streams/sources/files/parquet.ts";
import { temporaryPath } from "./support/temporary.ts";

type Planned = Awaited<ReturnType<SourceReader["plan"]>>[number];
type Position = Parameters<SourceReader["read"]>[1];

interface Given {
  readonly number: number;
  readonly after: Position;
  readonly value?: unknown;
  readonly fault?: string;
  readonly text?: string;
}

async function read(
  reader: SourceReader<unknown>,
  planned: Planned,
  position: Position = null,
): Promise<Given[]> {
  const items: Given[] = [];
  const { signal } = new AbortController();
  for await (const chunk of reader.read(planned, position, { signal })) items.push(...chunk.items);
  return items;
}

async function first(reader: SourceReader<unknown>): Promise<Planned> {
  return (await reader.plan())[0]!;
}

/** All items; and from each position just those after it. */
async function readThroughout(reader: SourceReader<unknown>): Promise<Given[]> {
  const planned = await first(reader);
  const all = await read(reader, planned);
  for (const [at, { after }] of all.entries())
    expect(await read(reader, planned, after)).toEqual(all.slice(at + 1));
  return all;
}

function written(content: string | Buffer, name = "data"): string {
  const path = join(temporaryPath(), name);
  writeFileSync(path, content);
  return path;
}

const values = (items: readonly Given[]) =>
  items.map(({ value, fault }) => (fault === undefined ? value : fault));

async function failure(work: () => Promise<unknown>): Promise<string> {
  try {
    await work();
    return "none";
  } catch (error) {
    return isKeyturnError(error) ? `${error.code}: ${error.message}` : String(error);
  }
}

const dataOf = (name: string): string =>
  fileURLToPath(
    new URL(`../data/${name}`, pathToFileURL(createRequire(import.meta.url).resolve("vega-datasets"))),
  );

describe("lines", () => {
  it("are texts, empty ones too; CRLF, a byte order mark and a missing last newline are no matter", async () => {
    const path = written("\ufeffone\r\n\n two \n\u{1f600}");
    const items = await readThroughout(lines({ path }));
    expect(values(items)).toEqual(["one", "", " two ", "\u{1f600}"]);
    expect(items.map(({ number }) => number)).toEqual([1, 2, 3, 4]);
  });

  it("are what a function makes of them, are left out, or are shown with what it throws", async () => {
    const path = written("# a comment\n1\nx\n2");
    const parse = (line: string): number | undefined => {
      if (line.startsWith("#")) return undefined;
      if (!/^\d+$/.test(line)) throw new Error("It is no number.");
      return Number(line);
    };
    const items = await readThroughout(lines({ path, parse }));
    expect(values(items)).toEqual([1, "It is no number.", 2]);
    expect(items[1]).toMatchObject({ number: 3, text: "x" });
  });

  it("of any bytes are taken as Latin-1, if that is asked for; of no encoding else", async () => {
    const path = written(Buffer.from([0xe9, 10, 0xff, 0]));
    expect(values(await readThroughout(lines({ path, encoding: "latin1" })))).toEqual(["\u00e9", "\u00ff\0"]);
    expect(values(await readThroughout(lines({ path })))).toEqual(["It is not UTF-8.", "It is not UTF-8."]);
    expect(await failure(async () => lines({ path, encoding: "utf16" as "utf8" }))).toMatch(
      /^invalid_options/,
    );
  });

  it("are each in one of several parts, and too long ones are shown", async () => {
    const path = written(Array.from({ length: 40 }, (_, at) => "x".repeat(at)).join("\n"));
    const reader = lines({ path, partitions: 5, maxLineBytes: 38 });
    const parts = await Promise.all((await reader.plan()).map((planned) => read(reader, planned)));
    expect(parts.flat().map(({ number }) => number)).toEqual(Array.from({ length: 40 }, (_, at) => at + 1));
    expect(parts.flat().at(-1)?.fault).toBe("The line has 39 bytes, more than 38.");
  });
});

describe("NDJSON", () => {
  it("gives values by line; empty lines, CRLF, a byte order mark and a missing last newline are no matter", async () => {
    const path = written('\ufeff{"a":1}\r\n\n  \n[2]\n"ü\u{1f600}"\nnull');
    const items = await readThroughout(ndjson({ path }));
    expect(values(items)).toEqual([{ a: 1 }, [2], "ü\u{1f600}", null]);
    expect(items.map(({ number }) => number)).toEqual([1, 4, 5, 6]);
  });

  it("shows what is no JSON, no UTF-8 or too long, with its line, and goes on", async () => {
    const lines = [
      Buffer.from("1\n{a\n"),
      Buffer.from([34, 0xff, 34, 10]),
      Buffer.from(`"${"x".repeat(300)}"\n2\n`),
    ];
    const items = await readThroughout(ndjson({ path: written(Buffer.concat(lines)), maxLineBytes: 200 }));
    expect(items.map(({ number }) => number)).toEqual([1, 2, 3, 4, 5]);
    expect(items[1]).toMatchObject({ fault: expect.stringMatching(/^It is not JSON/), text: "{a" });
    expect(items[2]?.fault).toBe("It is not UTF-8.");
    expect(items[3]?.fault).toBe("The line has 302 bytes, more than 200.");
    expect(items[3]?.text).toHaveLength(200);
    expect(values(items.slice(4))).toEqual([2]);
  });

  it("lines longer than a block of the file are whole", async () => {
    const long = JSON.stringify("y".repeat(700_000));
    const items = await read(
      ndjson({ path: written(`${long}\n1\n${long}\n`) }),
      await first(ndjson({ path: written(`${long}\n1\n${long}\n`) })),
    );
    expect(items.map(({ number }) => number)).toEqual([1, 2, 3]);
    expect(String(items[2]?.value)).toHaveLength(700_000);
  });

  it("any file in any number of parts: each line is in one, with its number", async () => {
    const line = fc.oneof(
      fc.constant(""),
      fc.string({ maxLength: 12 }).map((text) => JSON.stringify(text)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 30 }),
        fc.integer({ min: 1, max: 9 }),
        async (lines, partitions) => {
          const path = written(lines.join("\n"));
          const reader = ndjson({ path, partitions });
          const parts = await Promise.all((await reader.plan()).map((planned) => read(reader, planned)));
          const whole = await read(ndjson({ path }), await first(ndjson({ path })));
          expect(parts.flat()).toEqual(whole);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("what is appended while a line is incomplete is taken when it is whole", async () => {
    const path = written('1\n{"a"');
    const reader = ndjson({ path, follow: true, poll_ms: 1 });
    const stop = new AbortController();
    const seen: unknown[] = [];
    for await (const { items } of reader.read(await first(reader), null, { signal: stop.signal })) {
      seen.push(...items.map(({ value }) => value));
      if (seen.length === 1) appendFileSync(path, ":2}\n");
      if (seen.length === 2) stop.abort();
    }
    expect(seen).toEqual([1, { a: 2 }]);
    if (!stop.signal.aborted) await once(stop.signal, "abort");
  });
});

describe("CSV", () => {
  it("gives records by the header: quotes, delimiters, line breaks and doubled quotes within fields", async () => {
    const path = written('\ufeffname,"a ""b""",c\r\n1,"x, ""y""\r\nz",3\r\n\r\n"","",""\r\né,,ß');
    const items = await readThroughout(csv({ path }));
    expect(values(items)).toEqual([
      { name: "1", 'a "b"': 'x, "y"\r\nz', c: "3" },
      { name: "", 'a "b"': "", c: "" },
      { name: "é", 'a "b"': "", c: "ß" },
    ]);
    expect(items.map(({ number }) => number)).toEqual([2, 5, 6]);
  });

  it("a malformed record costs its line, whatever it opens", async () => {
    const path = written('a,b\n1,2\n3\n4,5,6\n7,x"y\n"8"z,9\n10,"open\n11,12\n13,"q"\n14,"never\n15,16\n');
    const items = await readThroughout(csv({ path, header: true }));
    expect(items.map(({ number, fault }) => [number, fault])).toEqual([
      [2, undefined],
      [3, "It has 1 fields, not 2."],
      [4, "It has 3 fields, not 2."],
      [5, "Field 2 has a quote within, but is not quoted."],
      [6, "Field 1 goes on after its closing quote."],
      [7, "Field 2 goes on after its closing quote."],
      [8, undefined],
      [9, undefined],
      [10, "A quote is opened in it and not closed."],
      [11, undefined],
    ]);
    expect(values(items.filter(({ fault }) => fault === undefined))).toEqual([
      { a: "1", b: "2" },
      { a: "11", b: "12" },
      { a: "13", b: "q" },
      { a: "15", b: "16" },
    ]);
  });

  it("memory is bounded where a quote is never closed", async () => {
    const path = written(`"${"a,b\n".repeat(300)}`);
    const items = await read(csv({ path, header: false, maxRecordBytes: 100 }), await first(csv({ path })));
    expect(items[0]).toMatchObject({
      number: 1,
      fault: "A quote is opened in it and not closed within 100 bytes.",
    });
    expect(values(items.slice(1))).toEqual(Array.from({ length: 299 }, () => ["a", "b"]));
  });

  it("other delimiters, other quotes, names of one's own, and no names", async () => {
    const path = written("a;'b;c'\n'it''s';2\n");
    const options = { path, delimiter: ";", quote: "'" };
    expect(values(await readThroughout(csv({ ...options, header: ["x", "y"] })))).toEqual([
      { x: "a", y: "b;c" },
      { x: "it's", y: "2" },
    ]);
    expect(values(await readThroughout(csv({ ...options, header: false })))).toEqual([
      ["a", "b;c"],
      ["it's", "2"],
    ]);
  });

  it("a header that cannot be read is an error, an empty file is none", async () => {
    for (const [text, wanted] of [
      ['"a', /^source_malformed: The header .* not closed/],
      ["a,a\n1,2\n", /^source_malformed: .* a name twice/],
      ["", /^none$/],
    ] as const) {
      const reader = csv({ path: written(text) });
      expect(await failure(async () => read(reader, await first(reader)))).toMatch(wanted);
    }
  });

  it("any table that csv-parse reads is read the same", async () => {
    const field = fc.string({
      unit: fc.constantFrom("a", "é", ",", '"', "\n", "\r\n", " ", "\u{1f600}"),
      maxLength: 6,
    });
    const table = fc
      .integer({ min: 1, max: 4 })
      .chain((width) => fc.array(fc.array(field, { minLength: width, maxLength: width }), { maxLength: 12 }));
    const quoted = (text: string): string =>
      /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    await fc.assert(
      fc.asyncProperty(table, fc.constantFrom("\n", "\r\n"), async (records, newline) => {
        const text = records.map((record) => record.map(quoted).join(",")).join(newline);
        const expected = parse(text, { skip_empty_lines: true, record_delimiter: newline }) as unknown;
        const reader = csv({ path: written(text), header: false });
        expect(values(await read(reader, await first(reader)))).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });

  it("real tables are read as csv-parse reads them", async () => {
    for (const name of ["airports.csv", "disasters.csv", "species.csv"]) {
      const path = dataOf(name);
      const reader = csv({ path });
      const items = await read(reader, await first(reader));
      const expected = (await import("node:fs")).readFileSync(path);
      expect(values(items), name).toEqual(parse(expected, { columns: true, bom: true }));
    }
  });
});

describe("Parquet", () => {
  const path = dataOf("flights-3m.parquet");
  const columns = ["origin", "delay"];

  it("gives rows with numbers, from any row on", async () => {
    const reader = parquet<{ origin: string; delay: number }>({ path, columns });
    const planned = await first(reader);
    expect(planned.spec).toMatchObject({ from: 0, to: 3_000_000 });
    const stop = new AbortController();
    const reading = reader.read(planned, 272_720, { signal: stop.signal });
    const rows: Given[] = [];
    for await (const { items } of reading) {
      rows.push(...items);
      if (rows.length > 10) break;
    }
    // Across the end of a row group.
    expect(rows.slice(0, 9).map(({ number }) => number)).toEqual(
      Array.from({ length: 9 }, (_, n) => 272_721 + n),
    );
    expect(rows[7]?.value).toEqual({ origin: "OAK", delay: 14 });
    expect(await reader.extent(planned, 272_720)).toEqual({ done: 272_720, total: 3_000_000 });
  });

  it("in parts of whole row groups, that together are the file", async () => {
    const parts = await parquet({ path, columns, partitions: 4 }).plan();
    const ends = parts.map(({ spec }) => [spec.from, spec.to]);
    expect(ends).toEqual([
      [0, 818_181],
      [818_181, 1_636_362],
      [1_636_362, 2_454_543],
      [2_454_543, 3_000_000],
    ]);
  });

  it("a file that was replaced is refused, one that is none says so", async () => {
    const copy = join(temporaryPath(), "copy.parquet");
    copyFileSync(path, copy);
    const reader = parquet({ path: copy, columns });
    const planned = await first(reader);
    writeFileSync(copy, "PAR1 but not really");
    expect(await failure(() => read(reader, planned, 5))).toMatch(
      /^source_failed: .*copy\.parquet cannot be read/,
    );
    copyFileSync(path, copy);
    appendFileSync(copy, "x");
    expect(await failure(() => read(reader, planned, 5))).toMatch(/^source_(failed|changed): /);
    const other = { ...planned, identity: { ...planned.identity, tail: "another" } };
    expect(
      await failure(() => read(parquet({ path, columns }), { ...other, spec: { ...planned.spec, path } })),
    ).toMatch(/^source_changed: .*is not the file that it was/);
    expect(await failure(() => parquet({ path: join(temporaryPath(), "none") }).plan())).toMatch(
      /^source_failed: .*ENOENT/,
    );
  });

  it("whole numbers that no number can hold are malformed, or stay bigints", () => {
    const row = () => ({ n: 2n ** 60n, list: [1n, { m: 2n }], at: new Date(5), bytes: new Uint8Array(1) });
    expect(rowItem({ ...row(), n: 7n }, 3, false)).toEqual({
      number: 3,
      after: 3,
      value: { n: 7, list: [1, { m: 2 }], at: new Date(5), bytes: new Uint8Array(1) },
    });
    expect(rowItem(row(), 3, false).fault).toBe("n is 1152921504606846976, more than a number can hold.");
    expect(rowItem(row(), 3, true)).toEqual({ number: 3, after: 3, value: row() });
  });
});
