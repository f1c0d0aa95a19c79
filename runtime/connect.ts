/**
 * A client outside of nodes: reaches every actor of an app over a store's transport.
 *
 * Owns a connection. Talks to the store for the app's shard count, then to the client.
 */
import { Client } from "./client/client.ts";
import { guarded, type Telemetry } from "./engine/telemetry.ts";
import type { AppSettings, Store, World } from "./ports/index.ts";
import { FORMAT } from "./node.ts";
import { natsClient, type NatsOptions } from "./stores/nats/index.ts";
import { KeyturnError } from "./words/errors.ts";
import { realWorld } from "./world.ts";

export interface ConnectOptions {
  /** How to reach the app's server. No permission on JetStream is needed. */
  readonly nats: NatsOptions;
  /** Traces of what this client asks: `telemetry()` of `keyturn/telemetry`. None by default. */
  readonly telemetry?: Telemetry | undefined;
  /** Clock and randomness; the real ones by default. */
  readonly world?: World;
}

/** A client with a connection of its own. */
export class ConnectedClient extends Client {
  readonly #store: Store;

  /** @internal */
  constructor(store: Store, world: World, shards: number, telemetry?: Telemetry) {
    super(store, world, shards, telemetry && guarded(telemetry, () => undefined));
    this.#store = store;
  }

  /** Settles everything that is open as unknown, and ends the connection. */
  async disconnect(): Promise<void> {
    this.close();
    await this.#store.close();
  }
}

/**
 * Makes a client of an app.
 * @throws KeyturnError `unreachable`, `access_denied`, `not_provisioned` if there is no such app, `app_mismatch`,
 *   `invalid_options`
 */
export async function connect({
  nats,
  telemetry,
  world = realWorld,
}: ConnectOptions): Promise<ConnectedClient> {
  const store = await natsClient(nats);
  try {
    return new ConnectedClient(store, world, shardsOf(await store.settings(), store.app), telemetry);
  } catch (error) {
    await store.close();
    throw error;
  }
}

function shardsOf(settings: AppSettings | undefined, name: string): number {
  if (settings === undefined) {
    throw new KeyturnError(
      "not_provisioned",
      `There is no app "${name}" on this server: start a node, or run "keyturn provision".`,
    );
  }
  if (settings.format !== FORMAT) {
    throw new KeyturnError(
      "app_mismatch",
      `The app is in format ${settings.format}; this runtime speaks format ${FORMAT}. Use the version of Keyturn that its nodes have.`,
    );
  }
  return settings.shards;
}
