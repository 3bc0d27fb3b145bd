// A small agent on the real openai package: Chat Completions, or Responses with --responses.
//   node openai_agent.mjs --base-url URL [--responses] [--calls N] [--stream|--no-stream|--mixed] [--concurrency N]
// The base URL is given without /v1. The CA is read from NODE_EXTRA_CA_CERTS.
import { options, rounds, runTool, sdk } from './sdk.mjs'

const { default: OpenAI } = await sdk('openai')
const opts = options()
const client = new OpenAI({ baseURL: `${opts.baseURL.replace(/\/$/, '')}/v1`, apiKey: 'sk-test-0000', maxRetries: 0 })
const parameters = { type: 'object', properties: { command: { type: 'string' } }, required: ['command'] }

async function chat(prompt, next) {
  const messages = [{ role: 'system', content: 'You are a test agent.' }, { role: 'user', content: prompt }]
  let message
  for (let call = next(); call; call = next()) {
    const request = { model: opts.model ?? 'gpt-5-mini', messages }
    if (opts.tools) request.tools = [{ type: 'function', function: { name: 'run_shell', description: 'Runs a command', parameters } }]
    if (call.stream) {
      const stream = client.chat.completions.stream({ ...request, stream_options: { include_usage: true } })
      message = (await stream.finalChatCompletion()).choices[0].message
    } else {
      message = (await client.chat.completions.create(request)).choices[0].message
    }
    messages.push(message)
    if (!message.tool_calls?.length) break
    for (const asked of message.tool_calls) {
      messages.push({ role: 'tool', tool_call_id: asked.id, content: runTool(JSON.parse(asked.function.arguments).command) })
    }
  }
  return message.content
}

async function responses(prompt, next) {
  const input = [{ role: 'user', content: prompt }]
  let response
  for (let call = next(); call; call = next()) {
    const request = { model: opts.model ?? 'gpt-5.6', instructions: 'You are a test agent.', input }
    if (opts.tools) request.tools = [{ type: 'function', name: 'run_shell', description: 'Runs a command', parameters, strict: false }]
    response = call.stream ? await client.responses.stream(request).finalResponse() : await client.responses.create(request)
    input.push(...response.output.map(({ parsed_arguments, ...item }) => item))
    const asked = response.output.filter((item) => item.type === 'function_call')
    if (!asked.length) break
    for (const item of asked) {
      input.push({ type: 'function_call_output', call_id: item.call_id, output: runTool(JSON.parse(item.arguments).command) })
    }
  }
  return response.output_text
}

await rounds(opts, opts.responses ? responses : chat)
