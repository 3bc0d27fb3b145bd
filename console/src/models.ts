// Model names. Pure.

/// `claude-opus-4-5` and `claude-opus-4-5-20251101` are the same model, as are `gpt-5` and `openai/gpt-5`.
export function sameModel(asked: string, answered: string): boolean {
  const tail = (name: string) => (name.toLowerCase().split("/").pop() ?? "").replace(/^models-/, "").replace(/:latest$|-latest$/, "");
  const [a, b] = [tail(asked), tail(answered)];
  return a.startsWith(b) || b.startsWith(a) || a.endsWith(b) || b.endsWith(a) || a.replaceAll(".", "-") === b.replaceAll(".", "-");
}
