/**
 * What a documentation page takes to be there when its code is run: servers under the addresses that it names, and an
 * actors module that it does not show.
 *
 * Owns the servers of one page from `serversFor` to `stop`. Talks to NATS servers, and to nothing of a page but its texts.
 */
import { copyFileSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { serverBinary } from "./nats-binary.ts";
import { freePorts } from "./nats-ports.ts";
import { startProduction } from "./nats-production.ts";
import { startServer } from "./nats-server.ts";
import { secrets, type User } from "./nats-variants.ts";

/** The addresses that pages name. */
const NATS = "127.0.0.1:4222";
const MONITOR = "127.0.0.1:8222";
const WEB = /(?<=[\s/])(?:127\.0\.0\.1)?:8080\b/g;
/** One of three machines, with users and TLS. */
const MACHINE = /\bnats-([123]):4222\b/g;
/** A page that starts its server itself. */
const SERVER = /^nats-server (?=-c )/gm;
const MODULE = "actors.ts";

export interface PageServers {
  /** A text of the page with the addresses that there are here. */
  own(text: string): string;
  /** Variables that whoever runs a text of the page has set. */
  env(text: string): Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** @param texts what is run of the page */
export async function serversFor(folder: string, texts: readonly string[]): Promise<PageServers> {
  const names = (what: string | RegExp): boolean => texts.some((text) => text.search(what) >= 0);
  const stops: (() => Promise<unknown>)[] = [];
  const replaced: [string | RegExp, string | ((text: string, at: string) => string)][] = [];
  if (names(WEB)) replaced.push([WEB, `127.0.0.1:${(await freePorts(1))[0]}`]);
  if (names(MACHINE)) {
    const place = mkdtempSync(join(tmpdir(), "keyturn-docs-nats-"));
    stops.push(async () => rmSync(place, { recursive: true, force: true }));
    const { cluster, ca } = await startProduction(place);
    stops.push(() => cluster.stop());
    copyFileSync(ca, join(folder, "ca.crt"));
    writeFileSync(join(folder, "node.password"), secrets.keyturn_node);
    replaced.push([MACHINE, (_, at) => `127.0.0.1:${cluster.servers[Number(at) - 1]?.port}`]);
  }
  if (names(SERVER)) {
    const [port, monitorPort] = await freePorts(2);
    const { path } = await serverBinary();
    // As in a project in which the package is installed.
    symlinkSync("../node_modules", join(folder, "node_modules"), "junction");
    replaced.push([SERVER, `'${path}' -p ${port} -m ${monitorPort} `]);
    replaced.push([NATS, `127.0.0.1:${port}`], [MONITOR, `127.0.0.1:${monitorPort}`]);
  } else if (names(NATS)) {
    const server = await startServer();
    stops.push(() => server.stop());
    replaced.push([NATS, `127.0.0.1:${server.port}`], [MONITOR, `127.0.0.1:${server.monitorPort}`]);
  }
  if (names(`./${MODULE}`) && !existsSync(join(folder, MODULE)))
    writeFileSync(join(folder, MODULE), 'export { counter } from "keyturn/actors";\n');
  return {
    own: (text) => replaced.reduce((own, [from, to]) => own.replaceAll(from, to as string), text),
    env: (text) => {
      const user = /--user (\w+)/.exec(text)?.[1];
      return user === undefined ? {} : { KEYTURN_NATS_PASSWORD: secrets[user as User] };
    },
    stop: async () => {
      for (const stop of stops.reverse()) await stop();
    },
  };
}
