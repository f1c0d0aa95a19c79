/**
 * What things are called on NATS: subjects, streams and buckets of one app.
 *
 * Owns the names, nothing else. They are written into servers and permissions; they never change.
 */
import type { DeadLetterId } from "../../ports/index.ts";
import { KeyturnError } from "../../words/errors.ts";
import { NO_JOURNAL } from "../../words/position.ts";
import { journalOf, type Layout } from "./layout.ts";

const APP = /^[A-Za-z][A-Za-z0-9_]{0,31}$/;

export class Names {
  readonly app: string;
  /** Streams. */
  readonly journal: string;
  readonly snapshots: string;
  readonly shards: string;
  readonly nodes: string;
  readonly dead: string;
  /** Requests for what the app was created with. */
  readonly info: string;
  /** Says that a shard was given up. */
  readonly changed: string;

  /** @throws KeyturnError `invalid_options` */
  constructor(app: string) {
    if (typeof app !== "string" || !APP.test(app)) {
      throw new KeyturnError(
        "invalid_options",
        `"${app}" is not an app's name: a letter, then up to 31 letters, digits or "_".`,
      );
    }
    this.app = app;
    this.journal = `${app}_journal`;
    this.snapshots = `KV_${app}_snapshots`;
    this.shards = `KV_${app}_shards`;
    this.nodes = `KV_${app}_nodes`;
    this.dead = `${app}_dead`;
    this.info = `${app}.info`;
    this.changed = `${app}.changed`;
  }

  /** A journal's stream. */
  journalStream(journal: number): string {
    return journal === 0 ? this.journal : `${this.journal}_${journal}`;
  }

  /** What a journal's stream takes in: everything, or in an app of several what is marked with its number. */
  journalSubjects(journal: number, { journals }: Layout): string {
    return journals === 1 ? `${this.app}.journal.>` : `${this.app}.journal.${journal}.*`;
  }

  lane(lane: string, layout: Layout): string {
    return layout.journals === 1
      ? `${this.app}.journal.${lane}`
      : `${this.app}.journal.${journalOf(lane, layout)}.${lane}`;
  }

  /** A bucket of snapshots. */
  bucketStream(bucket: number): string {
    return bucket === 0 ? this.snapshots : `${this.snapshots}_${bucket}`;
  }

  /** An entry of the bucket behind a stream `KV_<bucket>`. */
  key(stream: string, key: string): string {
    return `$KV.${stream.slice(3)}.${key}`;
  }

  deadLetter({ position, index }: DeadLetterId): string {
    return `${this.app}.dead.${NO_JOURNAL}_${position}_${index}`;
  }
}
