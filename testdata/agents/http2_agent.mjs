// LLM calls through Node's own `http2`: one session, three streams at a time.
//   node http2_agent.mjs BASE_URL [CALLS]
import http2 from 'node:http2'
const [url, calls = '9'] = process.argv.slice(2)
const session = http2.connect(url)

function call(n) {
  const stream = n % 2 === 0
  const words = 'a longer prompt '.repeat(n % 4 === 3 ? 4000 : 1)
  const body = JSON.stringify({ model: 'gpt-5-mini', stream, messages: [{ role: 'user', content: `call ${n}: ${words}` }] })
  return new Promise((resolve, reject) => {
    const request = session.request({
      ':method': 'POST', ':path': '/v1/chat/completions', 'content-type': 'application/json', authorization: 'Bearer sk-test-0000', 'x-call': String(n),
    })
    let size = 0
    request.on('data', (chunk) => (size += chunk.length))
    request.on('close', () => resolve(size))
    request.on('error', reject)
    request.end(body)
  })
}

for (let first = 0; first < Number(calls); first += 3) {
  console.log(...(await Promise.all([first, first + 1, first + 2].map((n) => call(n)))))
}
session.close()
