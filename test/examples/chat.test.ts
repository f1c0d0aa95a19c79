import { describe, expect, it } from "vitest";
import { follow, main, room } from "../../examples/chat/chat.ts";
import { memory, startNode } from "../../runtime/index.ts";
import { onBothStores } from "../support/example-stores.ts";

onBothStores(
  () => memory,
  (open) => {
    it("shows every post once and in order, and none of somebody who has not joined", async () => {
      expect(await main(open)).toEqual([
        "1 Ada: Is there any tea left?",
        "2 Ben: In the blue tin.",
        "3 Cleo: Bye.",
      ]);
    });
  },
);

describe("a room", () => {
  it("keeps the newest hundred posts, with their numbers", async () => {
    const node = await startNode({ actors: [room], store: memory() });
    const hall = node.client.actor(room, "hall");
    await hall.send({ type: "join", name: "Ada" });
    await hall.send({ type: "join", name: "Ada" });
    const asked = Array.from({ length: 150 }, (_, n) =>
      hall.ask({ type: "post", from: "Ada", text: `${n}` }),
    );
    expect(await Promise.all(asked)).toEqual(Array.from({ length: 150 }, (_, n) => n + 1));
    const { members, posts } = (await hall.get()).context;
    expect(members).toEqual(["Ada"]);
    expect(posts.map(({ number }) => number)).toEqual(Array.from({ length: 100 }, (_, n) => n + 51));
    const late: number[] = [];
    await follow(node.client, "hall", ({ number }) => {
      late.push(number);
      return number === 150 ? "enough" : "go on";
    });
    expect(late).toEqual(posts.map(({ number }) => number));
    await hall.send({ type: "leave", name: "Ada" });
    expect(await hall.ask({ type: "post", from: "Ada", text: "gone" })).toBe(0);
    await node.stop();
  });
});
