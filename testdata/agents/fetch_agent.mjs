// One turn with a tool call through the runtime's own `fetch`, no SDK: for Node, Bun and Deno.
//   node|bun|deno run -A fetch_agent.mjs BASE_URL [TURNS]
const [url, turns = '1'] = (globalThis.Deno?.args ?? process.argv.slice(2))
const tool = { name: 'run_shell', description: 'Runs a command', input_schema: { type: 'object', properties: { command: { type: 'string' } }, required: ['command'] } }

async function call(messages) {
  const response = await fetch(`${url}/v1/messages`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': 'sk-ant-test-0000', 'anthropic-version': '2023-06-01' },
    body: JSON.stringify({ model: 'claude-sonnet-5-5', max_tokens: 512, stream: true, tools: [tool], messages }),
  })
  if (!response.ok) throw new Error(`status ${response.status}`)
  const blocks = []
  let buffer = ''
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    buffer += chunk
    for (let at; (at = buffer.indexOf('\n\n')) >= 0; buffer = buffer.slice(at + 2)) {
      const data = buffer.slice(0, at).split('\n').find((line) => line.startsWith('data: '))
      const event = JSON.parse(data.slice(6))
      if (event.type === 'content_block_start') blocks[event.index] = { ...event.content_block, json: '' }
      if (event.delta?.type === 'text_delta') blocks[event.index].text += event.delta.text
      if (event.delta?.type === 'input_json_delta') blocks[event.index].json += event.delta.partial_json
    }
  }
  return blocks.map(({ json, ...block }) => (block.type === 'tool_use' ? { ...block, input: JSON.parse(json) } : block))
}

for (let turn = 1; turn <= Number(turns); turn++) {
  const messages = [{ role: 'user', content: `turn ${turn}` }]
  for (;;) {
    const blocks = await call(messages)
    messages.push({ role: 'assistant', content: blocks })
    const asked = blocks.filter((block) => block.type === 'tool_use')
    if (!asked.length) {
      console.log(blocks.map((block) => block.text ?? '').join(''))
      break
    }
    messages.push({ role: 'user', content: asked.map((block) => ({ type: 'tool_result', tool_use_id: block.id, content: block.input.command.slice(5) })) })
  }
}
