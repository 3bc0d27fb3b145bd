import { describe, expect, it } from "vitest";
import { treeOf } from "./tree";

const node = (pid: number, parent: number | null, second: number) => ({ pid, parent, started_at: `2026-11-28T13:00:0${second}Z` });

describe("a process tree", () => {
  it("puts children below their parents in the order in which they began", () => {
    const placed = treeOf([node(3, 1, 3), node(1, null, 1), node(4, 3, 4), node(2, 1, 2), node(9, 77, 5)]);
    expect(placed.map(({ row, depth }) => [row.pid, depth])).toEqual([
      [1, 0],
      [2, 1],
      [3, 1],
      [4, 2],
      [9, 0],
    ]);
  });
  it("loses nobody to a circle of pids that were used again", () => {
    expect(treeOf([node(1, 2, 1), node(2, 1, 2), node(3, 3, 3)]).length).toBe(3);
  });
});
