/**
 * A client's side of the numbered channels: requests out, results in, each settled once.
 *
 * Owns the numbers of this client's requests in every shard, those that are not settled, their deadlines and their
 * repetition. Talks to the transport.
 *
 * Invariants:
 * 1. Requests to one shard are numbered in the order of the calls, and leave in that order.
 * 2. A request stays until its result is there; every frame says below which number nothing is open any more.
 * 3. A request whose deadline passed is settled as unknown for its caller and still belongs to the channel, so that
 *    its outcome can be asked for (`again`), until `ABANDONED_MS` later.
 * 4. No request is settled twice, none is forgotten: closing settles all.
 */
import type { Clock, Transport } from "../ports/index.ts";
import { isErrorCode, KeyturnError, meanings } from "../words/errors.ts";
import {
  type Frame,
  Get,
  History,
  Mailbox,
  messageBytes,
  type RefusalFrame,
  type Reply,
  type ReplyFrame,
  type Request,
  type RequestKind,
  Query,
  Timers,
  Unwatch,
  Watch,
} from "../words/frames.ts";
import { limits } from "../words/limits.ts";

/** Who sends: remembers its newest request, so that a repetition never overtakes one. */
export interface Sender {
  last: Request | undefined;
}

/** One call: the request as it goes into a frame, and who waits for its result. One object, because there are many. */
export class Call implements Request {
  readonly kind: RequestKind;
  readonly type: string;
  readonly key: string;
  readonly id: string;
  readonly event: unknown;
  /** Of the event, about; what bounds a frame. */
  readonly bytes: number;
  readonly requestId: string | undefined;
  readonly trace: string | undefined;
  readonly sender: Sender;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: KeyturnError) => void;
  deadline_ms = 0;
  number = 0;
  /** It must never be applied any more, also by an owner who finds no record of it: some leave none. */
  settled = false;
  /** False once its deadline has passed: the caller was told that the outcome is unknown. */
  waited = true;

  constructor(
    kind: RequestKind,
    to: { readonly type: string; readonly key: string; readonly id: string },
    sender: Sender,
    event: unknown,
    bytes: number,
    requestId: string | undefined,
    trace: string | undefined,
    resolve: (value: unknown) => void,
    reject: (error: KeyturnError) => void,
  ) {
    this.kind = kind;
    this.type = to.type;
    this.key = to.key;
    this.id = to.id;
    this.event = event;
    this.bytes = bytes;
    this.requestId = requestId;
    this.trace = trace;
    this.sender = sender;
    this.resolve = resolve;
    this.reject = reject;
  }

  /** The same request once more, for a new number or a new caller. */
  repeat(resolve: Call["resolve"], reject: Call["reject"], deadline_ms: number): Call {
    const call = new Call(
      this.kind,
      this,
      this.sender,
      this.event,
      this.bytes,
      this.requestId,
      this.trace,
      resolve,
      reject,
    );
    call.deadline_ms = deadline_ms;
    return call;
  }
}

/** How often deadlines and repetitions are looked at. */
const LOOK_MS = 20;
const REPEAT_FIRST_MS = 200;
const REPEAT_LAST_MS = 2_000;
/** Without an owner the next try comes soon: hand-overs take milliseconds. */
const RETRY_FIRST_MS = 2;
const ABANDONED_MS = 60_000;
/** Results kept of requests whose callers were told that the outcome is unknown. */
const LATE_MAX = 1_024;

/** The requests of this client to one shard. */
class Channel {
  readonly shard: number;
  /** Requests from `base` on, in order; settled ones at the head are taken away. */
  readonly open: Call[] = [];
  head = 0;
  /** Number of the first request in `open`. */
  first = 1;
  next = 1;
  /** Requests from this number on have not been sent, or are to be sent again. */
  unsent = 1;
  /** The oldest open number at the last look, since when it is the oldest, and how long that may last. */
  oldest = 0;
  oldest_ms = 0;
  pause_ms = REPEAT_FIRST_MS;
  retry_ms = RETRY_FIRST_MS;
  /** Nobody owned the shard just now: nothing is sent until the next try. */
  resting = false;
  /** Epoch and incarnation of the shard's owner as far as they are known. */
  epoch = 0;
  owner: string | undefined = undefined;
  dirty = false;

  constructor(shard: number) {
    this.shard = shard;
  }

  get base(): number {
    return this.first + this.head;
  }

  get size(): number {
    return this.open.length - this.head;
  }

  at(number: number): Call | undefined {
    return number < this.base ? undefined : this.open[number - this.first];
  }

  /** Takes settled requests away from the head. */
  trim(): void {
    while (this.head < this.open.length && (this.open[this.head] as Call).settled) this.head++;
    if (this.head === this.open.length) {
      this.first += this.head;
      this.open.length = 0;
      this.head = 0;
    } else if (this.head > 1_024) {
      this.first += this.head;
      this.open.splice(0, this.head);
      this.head = 0;
    }
    if (this.unsent < this.base) this.unsent = this.base;
  }
}

export class Requests {
  readonly name: string;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #channels = new Map<number, Channel>();
  /** Abandoned requests that were settled after all, by id. */
  readonly #late = new Map<string, Reply>();
  readonly #unsubscribe: () => void;
  readonly #onWatch: (watch: string, state: unknown) => void;
  #dirty: Channel[] = [];
  #flushing = false;
  #looking = false;
  #cancelLook: (() => void) | undefined;
  #open = 0;
  #closed = false;

  constructor(
    name: string,
    transport: Transport,
    clock: Clock,
    onWatch: (watch: string, state: unknown) => void,
  ) {
    this.name = name;
    this.#transport = transport;
    this.#clock = clock;
    this.#onWatch = onWatch;
    this.#unsubscribe = transport.subscribe(`client.${name}`, (frame) => this.#receive(frame));
  }

  /** Requests that wait for their result. */
  get inFlight(): number {
    return this.#open;
  }

  /** Sends a request. Throws `overloaded` or `client_closed`; everything else comes through the call. */
  send(shard: number, call: Call, timeout_ms: number): void {
    call.deadline_ms = this.#clock.monotonic() + timeout_ms;
    call.sender.last = call;
    this.#send(shard, call);
  }

  #send(shard: number, call: Call): void {
    if (this.#closed)
      throw new KeyturnError("client_ended", "This client is closed; nothing was sent. Make a new one.");
    const channel = this.#channel(shard);
    if (channel.size >= limits.sessionInFlight) {
      throw new KeyturnError(
        "overloaded",
        `${limits.sessionInFlight} requests of this client to shard ${shard} wait for their results. Wait for some of them.`,
      );
    }
    call.number = channel.next++;
    channel.open.push(call);
    this.#open++;
    this.#mark(channel);
    this.#look();
  }

  /**
   * Waits once more for a request that timed out. False if the id is not one of this client's own making.
   * @throws KeyturnError `request_forgotten` for one of its own that it knows no more: sent again, it might be applied
   *   twice
   */
  again(requestId: string, timeout_ms: number, call: Call): boolean {
    const late = this.#late.get(requestId);
    if (late !== undefined) {
      this.#late.delete(requestId);
      answer(call, late, requestId);
      return true;
    }
    const [name, shard, number] = requestId.split(":");
    if (name !== this.name) return false;
    const channel = this.#channels.get(Number(shard));
    const open = channel?.at(Number(number));
    if (channel === undefined || open === undefined || open.settled || open.waited)
      throw forgotten(requestId);
    // The new caller takes the old one's place in the channel.
    const again = open.repeat(call.resolve, call.reject, this.#clock.monotonic() + timeout_ms);
    again.number = open.number;
    channel.open[open.number - channel.first] = again;
    this.#look();
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#unsubscribe();
    this.#cancelLook?.();
    for (const channel of this.#channels.values()) {
      for (const open of channel.open) if (!open.settled && open.waited) open.reject(closed());
    }
    this.#channels.clear();
  }

  #channel(shard: number): Channel {
    let channel = this.#channels.get(shard);
    if (channel === undefined) this.#channels.set(shard, (channel = new Channel(shard)));
    return channel;
  }

  #mark(channel: Channel): void {
    if (!channel.dirty) {
      channel.dirty = true;
      this.#dirty.push(channel);
    }
    if (!this.#flushing) {
      this.#flushing = true;
      // Everything that one tick asks leaves in one frame a shard.
      this.#clock.defer(() => this.#flush());
    }
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#closed) return;
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const channel of dirty) {
      channel.dirty = false;
      if (!channel.resting) this.#transmit(channel);
    }
  }

  #transmit(channel: Channel): void {
    const { shard } = channel;
    while (channel.unsent < channel.next) {
      const requests: Request[] = [];
      const first = channel.unsent;
      // The numbers of a frame have no gaps: a settled request's place is taken by nothing.
      let bytes = 0;
      for (let n = first; n < channel.next && requests.length < limits.frameRequests; n++) {
        const call = channel.at(n) as Call;
        bytes += messageBytes(call, call.settled ? 0 : call.bytes);
        if (bytes > limits.frameFill && requests.length > 0) break;
        requests.push(call.settled ? nothingOf(call) : call);
      }
      // Set before, because a refusal may come back while the frame is being published.
      const unsent = first + requests.length;
      channel.unsent = unsent;
      const { base, epoch, owner } = channel;
      const frame: Frame = { kind: "request", shard, session: this.name, base, first, epoch, requests };
      const sent = this.#transport.publish(`shard.${shard}`, frame, owner);
      if (!sent) {
        this.#retry(channel);
        return;
      }
      if (channel.unsent !== unsent) return;
    }
  }

  /** Nobody owns the shard at the moment: try again soon, then less often. */
  #retry(channel: Channel): void {
    channel.owner = undefined;
    channel.unsent = channel.base;
    if (channel.resting) return;
    channel.resting = true;
    const wait = channel.retry_ms;
    channel.retry_ms = Math.min(channel.retry_ms * 2, REPEAT_FIRST_MS);
    this.#clock.after(wait, () => {
      channel.resting = false;
      if (!this.#closed) this.#mark(channel);
    });
  }

  #receive(frame: Frame): void {
    if (frame.kind === "reply") this.#receiveReplies(frame);
    else if (frame.kind === "refusal") this.#receiveRefusal(frame);
    else if (frame.kind === "watch") this.#onWatch(frame.watch, frame.state);
  }

  #receiveReplies({ from, replies }: ReplyFrame): void {
    for (const reply of replies) {
      const channel = this.#channels.get(reply[0]);
      const open = channel?.at(reply[1]);
      if (channel === undefined || open === undefined || open.settled) continue;
      // A former owner's refusal says nothing once the request was sent to the next owner.
      if (reply[2] !== undefined && reply[2][2] !== channel.epoch) continue;
      open.settled = true;
      this.#open--;
      channel.owner = from;
      channel.pause_ms = REPEAT_FIRST_MS;
      channel.retry_ms = RETRY_FIRST_MS;
      if (open.waited) this.#settle(channel, open, reply);
      else this.#keepLate(this.#idOf(channel.shard, open.number), reply);
      if (channel.open[channel.head] === open) channel.trim();
    }
  }

  #settle(channel: Channel, call: Call, reply: Reply): void {
    // Lost with a node, and certainly not applied: sent again under a new number, if no later request of the same
    // sender could be overtaken by it.
    if (reply[2]?.[0] === "superseded" && call.sender.last === call) {
      const again = call.repeat(call.resolve, call.reject, call.deadline_ms);
      call.sender.last = again;
      channel.trim();
      try {
        this.#send(channel.shard, again);
      } catch {
        answer(call, reply, this.#idOf(channel.shard, call.number));
      }
    } else answer(call, reply, this.#idOf(channel.shard, call.number));
  }

  /** The result of a request that nobody waits for now; the oldest ones are forgotten. */
  #keepLate(id: string, reply: Reply): void {
    if (this.#late.size >= LATE_MAX) this.#late.delete(this.#late.keys().next().value as string);
    this.#late.set(id, reply);
  }

  #receiveRefusal({ shard, from, reason, epoch, expected }: RefusalFrame): void {
    if (shard === undefined) {
      // Nobody is there by that name any more.
      for (const channel of this.#channels.values()) if (channel.owner === from) this.#moved(channel);
      return;
    }
    const channel = this.#channels.get(shard);
    if (channel === undefined) return;
    if (reason === "moved") this.#moved(channel);
    else if (channel.size > 0 && epoch >= channel.epoch) {
      channel.epoch = epoch;
      channel.owner = from;
      channel.unsent = Math.max(channel.base, Math.min(expected, channel.next));
      this.#mark(channel);
    }
  }

  #moved(channel: Channel): void {
    channel.owner = undefined;
    if (channel.size > 0) this.#retry(channel);
  }

  #look(): void {
    if (this.#looking || this.#closed) return;
    this.#looking = true;
    this.#cancelLook = this.#clock.after(LOOK_MS, () => {
      this.#looking = false;
      this.#lookNow();
    });
  }

  /** Deadlines, repetitions and what was abandoned too long ago. */
  #lookNow(): void {
    const now = this.#clock.monotonic();
    let open = 0;
    for (const channel of this.#channels.values()) {
      if (channel.size === 0) continue;
      open += channel.size;
      for (let at = channel.head; at < channel.open.length; at++)
        this.#expire(channel, channel.open[at] as Call, now);
      channel.trim();
      if (channel.base !== channel.oldest) {
        channel.oldest = channel.base;
        channel.oldest_ms = now;
      } else if (channel.size > 0 && now - channel.oldest_ms >= channel.pause_ms && !channel.resting) {
        channel.oldest_ms = now;
        channel.pause_ms = Math.min(channel.pause_ms * 2, REPEAT_LAST_MS);
        channel.owner = undefined;
        channel.unsent = channel.base;
        this.#mark(channel);
      }
    }
    if (open > 0) this.#look();
  }

  #expire(channel: Channel, open: Call, now: number): void {
    if (open.settled || now < open.deadline_ms) return;
    if (open.waited) {
      open.waited = false;
      open.deadline_ms = now + ABANDONED_MS;
      open.reject(late(open, open.requestId ?? this.#idOf(channel.shard, open.number)));
    } else {
      // Nobody asked for it in time. The channel must go on.
      open.settled = true;
      this.#open--;
    }
  }

  #idOf(shard: number, number: number): string {
    return `${this.name}:${shard}:${number}`;
  }
}

/** @param id of the request, for who did not give it one */
function answer(call: Call, [, , error, value]: Reply, id: string): void {
  if (error === undefined) {
    call.resolve(value);
    return;
  }
  const [given, text] = error;
  const code = isErrorCode(given) ? given : "store_failed";
  // Whoever repeated it without its id would have it applied twice.
  const unknown = meanings[code].outcome === "unknown";
  call.reject(new KeyturnError(code, text, unknown ? { requestId: call.requestId ?? id } : {}));
}

/**
 * Takes a settled request's place in its channel: changes nothing at the next owner, who may not know it. What was asked of
 * a shard names no actor: it stays a question, one that is refused unread.
 */
function nothingOf({ kind, type, key, id }: Call): Request {
  const nothing = kind === Query ? Query : Unwatch;
  return { kind: nothing, type, key, id, event: "", requestId: undefined, trace: undefined };
}

/** What only looks, and so changes nothing. */
const LOOKS: ReadonlySet<RequestKind> = new Set([Get, History, Mailbox, Query, Timers, Unwatch, Watch]);

function late({ kind, type, key }: Call, requestId: string): KeyturnError {
  if (!LOOKS.has(kind)) {
    const text = `No answer from ${type}/${key} in time. It may have been applied or not; ask again with the request id ${requestId} to learn it.`;
    return new KeyturnError("timeout", text, { requestId });
  }
  const whom = kind === Query ? `those who have the actors of "${type}"` : `${type}/${key}`;
  return new KeyturnError(
    "timeout",
    `No answer from ${whom} in time. Nothing was changed, it was only looked at: try again, or give it a longer timeout_ms.`,
  );
}

function forgotten(requestId: string): KeyturnError {
  return new KeyturnError(
    "request_forgotten",
    `This client no longer knows the request ${requestId}. It may have been applied or not: look at the actor. Give requests an id of your own to be able to repeat them at any time.`,
    { requestId },
  );
}

function closed(): KeyturnError {
  return new KeyturnError(
    "client_closed",
    "This client is closed. What was not answered may have been applied or not.",
  );
}
