// A Node or Bun agent for benches/agent.py: streams one answer and says what it cost. Usage: agent_client.mjs PORT TOKENS RATE SIZE
const [port, tokens, rate, size] = process.argv.slice(2, 6).map(Number);
const body = JSON.stringify({ model: "claude-bench-1", max_tokens: 9, stream: true, messages: [{ role: "user", content: "go" }] });
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

async function ask(tokens, rate) {
  const response = await fetch(`https://localhost:${port}/v1/messages?tokens=${tokens}&rate=${rate}&size=${size}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body,
  });
  const gaps = [];
  let [seen, before] = [0, performance.now()];
  for await (const piece of response.body) {
    const now = performance.now();
    gaps.push(now - before);
    before = now;
    const text = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength).toString("latin1");
    for (let at = text.indexOf("content_block_delta"); at >= 0; at = text.indexOf("content_block_delta", at + 1)) seen += 1;
  }
  return { gaps, seen };
}

await ask(2_000, 0);
const [began, at] = [cpu(), performance.now()];
const { gaps, seen } = await ask(tokens, rate);
const [took, spent] = [performance.now() - at, cpu() - began];
gaps.splice(0, 2);
gaps.sort((a, b) => a - b);
console.log(
  JSON.stringify({
    tokens: seen,
    reads: gaps.length,
    cpu_us: spent,
    seconds: took / 1e3,
    p50_us: gaps[gaps.length >> 1] * 1e3,
    p99_us: gaps[Math.floor(gaps.length * 0.99)] * 1e3,
  }),
);
process.exit(0);
