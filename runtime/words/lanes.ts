/**
 * Lanes: several channels between the same two shards, so that messages which have to wait hold up no others.
 *
 * What actors tell each other goes over lane 0. What is routed to a sink or a view goes over others: while a sink is down
 * its messages wait, and everything behind them in their channel does, for the order's sake; and those for a view wait
 * for nodes that do not have it yet.
 *
 * A channel is named, at either end, by one number: the shard at the other end plus the lane times `limits.shards`. So
 * the channels of lane 0 are named by the shard alone, as they were before there were lanes. Talks to nobody.
 */
import { limits } from "./limits.ts";

/** How many lanes there may be. */
export const LANES = 8;
/** What is routed to views. */
export const VIEW_LANE = 7;
/** From 1 to this one: what is routed to sinks. Those on different lanes do not wait for one another. */
export const SINK_LANES = 6;

export function isSinkLane(lane: number): boolean {
  return lane >= 1 && lane <= SINK_LANES;
}

/** Name of the channel to a shard over a lane. */
export function channelTo(shard: number, lane: number): number {
  return shard + lane * limits.shards;
}

/** The shard at the other end of a channel. */
export function shardOfChannel(channel: number): number {
  return channel % limits.shards;
}

export function laneOfChannel(channel: number): number {
  return Math.floor(channel / limits.shards);
}

/** Name of the same channel at its other end. `shard` is the one at this end. */
export function atOtherEnd(channel: number, shard: number): number {
  return channel - shardOfChannel(channel) + shard;
}
