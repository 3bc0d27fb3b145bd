// Processes as a tree: children below their parents, in the order in which they began. Pure.

export type Node = { pid: number; parent: number | null; started_at: string };
export type Placed<T> = { row: T; depth: number };

export function treeOf<T extends Node>(rows: readonly T[]): Placed<T>[] {
  const oldestFirst = [...rows].sort((a, b) => (a.started_at < b.started_at ? -1 : a.started_at > b.started_at ? 1 : a.pid - b.pid));
  const known = new Set(oldestFirst.map((row) => row.pid));
  const children = new Map<number, T[]>();
  const roots: T[] = [];
  for (const row of oldestFirst) {
    if (row.parent !== null && row.parent !== row.pid && known.has(row.parent)) {
      children.set(row.parent, [...(children.get(row.parent) ?? []), row]);
    } else {
      roots.push(row);
    }
  }
  const placed: Placed<T>[] = [];
  const seen = new Set<T>();
  const waiting: Placed<T>[] = roots.reverse().map((row) => ({ row, depth: 0 }));
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    if (seen.has(next.row)) continue;
    seen.add(next.row);
    placed.push(next);
    const depth = next.depth + 1;
    for (const child of (children.get(next.row.pid) ?? []).toReversed()) waiting.push({ row: child, depth });
  }
  // A pid that was used again can make a circle: nothing may be missing for that.
  for (const row of oldestFirst) if (!seen.has(row)) placed.push({ row, depth: 0 });
  return placed;
}
