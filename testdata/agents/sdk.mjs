// What the JavaScript agents share: finding the SDKs in the test cache, arguments, and the one tool.
import { execFileSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const cache = process.env.HERON_TEST_CACHE ?? join(here, '../../target/test-cache')

// Packages live in the cache and not beside this file, so Node's own look-up does not find them.
export async function sdk(name) {
  const require = createRequire(join(cache, 'node', 'package.json'))
  return import(pathToFileURL(require.resolve(name)).href)
}

export function options() {
  const out = { calls: 2, mode: 'stream', concurrency: 1, prompt: "Run the probe — läuft's? 🚀", tools: true }
  const args = process.argv.slice(2)
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--base-url') out.baseURL = args[++i]
    else if (args[i] === '--calls') out.calls = Number(args[++i])
    else if (args[i] === '--concurrency') out.concurrency = Number(args[++i])
    else if (args[i] === '--prompt') out.prompt = args[++i]
    else if (args[i] === '--model') out.model = args[++i]
    else if (args[i] === '--big') out.big = Number(args[++i])
    else if (args[i] === '--no-tools') out.tools = false
    else if (args[i] === '--responses') out.responses = true
    else if (['--stream', '--no-stream', '--mixed'].includes(args[i])) out.mode = args[i].slice(2)
    else throw new Error(`unknown argument ${args[i]}`)
  }
  if (!out.baseURL) throw new Error('--base-url is missing')
  return out
}

export function runTool(command) {
  if (!command.startsWith('echo heron-probe')) return 'refused'
  return execFileSync('echo', command.split(' ').slice(1)).toString()
}

// Runs `round(prompt, next)` until the budget of calls is spent; `next()` takes one call from it and says whether to stream.
export async function rounds(opts, round) {
  const lanes = Math.min(opts.concurrency, opts.calls)
  const lane = async (k) => {
    let left = Math.floor(opts.calls / lanes) + (k < opts.calls % lanes ? 1 : 0)
    let made = 0
    const next = () => {
      if (left <= 0) return null
      left -= 1
      made += 1
      return { stream: opts.mode === 'stream' || (opts.mode === 'mixed' && made % 2 === 1) }
    }
    for (let n = 1; left > 0; n++) {
      const padding = opts.big ? ' padding ü'.repeat(Math.ceil(opts.big / 11)) : ''
      console.log(await round(`${opts.prompt} (${k}.${n})${padding}`, next))
    }
  }
  await Promise.all(Array.from({ length: lanes }, (_, k) => lane(k)))
}
