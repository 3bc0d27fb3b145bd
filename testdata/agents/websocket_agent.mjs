// OpenAI Responses over a WebSocket with the `ws` library, with shared history and without.
//   node websocket_agent.mjs BASE_URL [TURNS]
import { createRequire } from 'node:module'
const require = createRequire(`${process.env.HERON_TEST_CACHE}/node/`)
const { WebSocket } = require('ws')
const [url, count = '3'] = process.argv.slice(2)

async function session(perMessageDeflate) {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/responses`, { perMessageDeflate, headers: { authorization: 'Bearer sk-test-0000' } })
  await new Promise((resolve, reject) => { socket.once('open', resolve); socket.once('error', reject) })
  let previous
  for (let turn = 0; turn < Number(count); turn++) {
    const text = `turn ${turn}: ${'some words '.repeat(turn === 1 ? 4000 : 3)}`
    const request = { type: 'response.create', model: 'gpt-5.6', stream: true, input: [{ type: 'message', role: 'user', content: [{ type: 'input_text', text }] }] }
    if (previous) request.previous_response_id = previous
    const completed = new Promise((resolve) => socket.on('message', function listen(data) {
      const event = JSON.parse(data)
      if (event.type !== 'response.completed') return
      socket.off('message', listen)
      resolve(event.response.id)
    }))
    socket.send(JSON.stringify(request))
    previous = await completed
  }
  console.log(socket.extensions)
  const closed = new Promise((resolve) => socket.once('close', resolve))
  socket.close(1000)
  await closed
}

await session(true)
await session({ clientNoContextTakeover: true, serverNoContextTakeover: true, threshold: 0 })
await session(false)
