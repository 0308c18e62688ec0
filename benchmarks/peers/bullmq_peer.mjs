// BullMQ behind the protocol of protocol.py.
import readline from 'node:readline'
import { Job, Queue, Worker } from 'bullmq'

const url = new URL(process.argv[2])
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null }
const queue = new Queue('bench', { connection })
const INPUT = { text: 'x'.repeat(89) }
const keys = []

async function runConcurrently(count, workers, work) {
  let next = 0
  await Promise.all(Array.from({ length: workers }, async () => {
    while (next < count) await work(next++)
  }))
}

const verbs = {
  create: (count, workers) => runConcurrently(count, workers, async () => { keys.push((await queue.add('noop', INPUT)).id) }),
  read: (count, workers) => runConcurrently(count, workers, number => Job.fromId(queue, keys[number % keys.length])),
  work: (count, workers) => new Promise(resolve => {
    let done = 0
    const worker = new Worker('bench', async () => {}, { connection: { ...connection }, concurrency: workers })
    worker.on('completed', async () => { if (++done === count) { await worker.close(); resolve() } })
  }),
}

await queue.waitUntilReady()
console.log('ready')
for await (const line of readline.createInterface({ input: process.stdin })) {
  const [verb, count, workers] = line.split(' ')
  const started = performance.now()
  await verbs[verb](Number(count), Number(workers))
  console.log((performance.now() - started) / 1000)
}
process.exit(0)
