// A small agent on the real @anthropic-ai/sdk.
//   node anthropic_agent.mjs --base-url URL [--calls N] [--stream|--no-stream|--mixed] [--concurrency N] [--big BYTES]
// The CA is read from NODE_EXTRA_CA_CERTS.
import { options, rounds, runTool, sdk } from './sdk.mjs'

const { default: Anthropic } = await sdk('@anthropic-ai/sdk')
const opts = options()
const client = new Anthropic({ baseURL: opts.baseURL, apiKey: 'sk-ant-test-0000', maxRetries: 0 })
const tool = {
  name: 'run_shell',
  description: 'Runs a command',
  input_schema: { type: 'object', properties: { command: { type: 'string' } }, required: ['command'] },
}

await rounds(opts, async (prompt, next) => {
  const messages = [{ role: 'user', content: prompt }]
  let message
  for (let call = next(); call; call = next()) {
    const request = { model: opts.model ?? 'claude-sonnet-5-5', max_tokens: 4096, system: 'You are a test agent — be brief.', messages }
    if (opts.tools) request.tools = [tool]
    message = call.stream ? await client.messages.stream(request).finalMessage() : await client.messages.create(request)
    messages.push({ role: 'assistant', content: message.content })
    const results = message.content
      .filter((block) => block.type === 'tool_use')
      .map((block) => ({ type: 'tool_result', tool_use_id: block.id, content: runTool(block.input.command) }))
    if (!results.length) break
    messages.push({ role: 'user', content: results })
  }
  return message.content.map((block) => block.text ?? '').join('')
})
