// Blocks that agents add to the user's words. Pure.

export type TextPart = { tag: string | null; text: string };

/// Agents put blocks like `<system-reminder>` into what looks like the user's words; they are folded.
export function splitReminders(text: string): TextPart[] {
  const parts: TextPart[] = [];
  const blocks = /<(system-reminder|environment_context|user_instructions|INSTRUCTIONS|local-command-caveat)>([\s\S]*?)<\/\1>/g;
  let at = 0;
  for (const found of text.matchAll(blocks)) {
    const before = text.slice(at, found.index).trim();
    if (before) parts.push({ tag: null, text: before });
    parts.push({ tag: found[1] ?? "", text: (found[2] ?? "").trim() });
    at = found.index + found[0].length;
  }
  const rest = text.slice(at);
  if (rest.trim() || parts.length === 0) parts.push({ tag: null, text: parts.length ? rest.trim() : rest });
  return parts;
}
