/**
 * A node as a process: `keyturn start`, signalled and listened to from outside.
 *
 * Owns the process and its log. What the node says with `--json` are events that can be awaited. Talks to the operating
 * system only; the process ends with this one.
 */
import type { ChildProcess } from "node:child_process";
import { createWriteStream, readFileSync } from "node:fs";
import { join } from "node:path";
import { spawnTied } from "../support/nats-process.ts";

export interface NodeProcessOptions {
  /** Folder of the compiled project. */
  readonly dist: string;
  readonly name: string;
  /** Where the node finds NATS. */
  readonly servers: readonly string[];
  /** Where the log is kept; another life of the same name adds to it. */
  readonly logs: string;
  /** The actors module, in the compiled project; by default that of the chaos run. */
  readonly actors?: string;
  readonly settings?: Readonly<Record<string, number>>;
  /** More options for the command. */
  readonly args?: readonly string[];
}

/** A line of `keyturn start --json`. */
export interface NodeEvent {
  readonly event: string;
  readonly time: string;
  readonly [field: string]: unknown;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** How long a node may take to say something that is waited for. */
const PATIENCE_MS = 60_000;
const TAIL_LINES = 30;

export class NodeProcess {
  readonly name: string;
  /** What it has said, in order. */
  readonly events: NodeEvent[] = [];
  readonly ended: Promise<Ended>;
  readonly logPath: string;
  /** Told of every event as it comes. */
  onEvent: (event: NodeEvent) => void = () => undefined;
  readonly #child: ChildProcess;
  readonly #waiting = new Set<() => void>();
  #over: Ended | undefined;

  constructor(options: NodeProcessOptions) {
    const { dist, name, servers, logs, actors = "test/chaos/actors.js", settings = {}, args = [] } = options;
    this.name = name;
    this.logPath = join(logs, `${name}.log`);
    const log = createWriteStream(this.logPath, { flags: "a" });
    const command = [
      "--max-semi-space-size=32",
      join(dist, "runtime/cli/main.js"),
      ...["start", "--json", "--name", name, "--nats", servers.join(","), "--actors", join(dist, actors)],
      ...Object.entries(settings).flatMap(([bound, value]) => ["--set", `${bound}=${value}`]),
      ...args,
    ];
    this.#child = spawnTied(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"] });
    log.write(`--- ${command.join(" ")}\n`);
    const { stdout, stderr } = this.#child;
    stderr?.pipe(log, { end: false });
    let open = "";
    stdout?.setEncoding("utf8").on("data", (text: string) => {
      log.write(text);
      const lines = (open + text).split("\n");
      open = lines.pop() as string;
      for (const line of lines) if (line.startsWith("{")) this.#hear(JSON.parse(line) as NodeEvent);
    });
    this.ended = new Promise((resolve) => {
      const end = (ended: Ended): void => {
        if (this.#over !== undefined) return;
        this.#over = ended;
        log.end(`--- ended with ${ended.code ?? ended.signal}\n`);
        for (const look of [...this.#waiting]) look();
        resolve(ended);
      };
      this.#child.once("error", () => end({ code: null, signal: null }));
      this.#child.once("close", (code, signal) => end({ code, signal }));
    });
  }

  /** Starts a node and waits until it serves. */
  static async ready(options: NodeProcessOptions): Promise<NodeProcess> {
    const node = new NodeProcess(options);
    await node.until("ready");
    return node;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get alive(): boolean {
    return this.#over === undefined;
  }

  /** Where its health is served, if it was started with `--health`. */
  get health(): string | undefined {
    return this.events.find(({ event }) => event === "ready")?.health as string | undefined;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Ends it as SIGKILL does, and waits for it. */
  async kill(): Promise<void> {
    this.signal("SIGKILL");
    await this.ended;
  }

  /** Asks it to end, also if it is stopped, and waits for it. */
  async stop(): Promise<Ended> {
    this.signal("SIGTERM");
    this.signal("SIGCONT");
    return await this.ended;
  }

  /**
   * Waits for an event.
   * @param from index in `events` of the first that counts; by default what it has said already counts
   * @throws Error if the node ends before, or takes too long
   */
  until(
    kind: string,
    { from = 0, holds = () => true, patience_ms = PATIENCE_MS }: UntilOptions = {},
  ): Promise<NodeEvent> {
    return new Promise((resolve, reject) => {
      let timer: NodeJS.Timeout | undefined;
      const done = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
      };
      const fail = (why: string): void => {
        done();
        reject(new Error(`${this.name} ${why} before "${kind}".\n${this.tail()}`));
      };
      const look = (): void => {
        const found = this.events.slice(from).find((event) => event.event === kind && holds(event));
        if (found !== undefined) {
          done();
          resolve(found);
        } else if (this.#over !== undefined) fail(`ended with ${this.#over.code ?? this.#over.signal}`);
      };
      this.#waiting.add(look);
      timer = setTimeout(() => fail(`has said nothing for ${patience_ms} ms`), patience_ms);
      look();
    });
  }

  /** The end of its log. */
  tail(lines = TAIL_LINES): string {
    return readFileSync(this.logPath, "utf8").trim().split("\n").slice(-lines).join("\n");
  }

  #hear(event: NodeEvent): void {
    this.events.push(event);
    this.onEvent(event);
    for (const look of [...this.#waiting]) look();
  }
}

export interface UntilOptions {
  readonly from?: number;
  readonly holds?: (event: NodeEvent) => boolean;
  readonly patience_ms?: number;
}
