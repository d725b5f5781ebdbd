// Serves metrics of prom-client until its standard input ends: node scraped.js PORT.
'use strict'
const http = require('http')
const client = require('prom-client')

new client.Counter({ name: 'orders_total', help: 'Orders.', labelNames: ['job'] }).inc({ job: 'own' }, 7)
new client.Gauge({ name: 'queue', help: 'Queued.' }).set(-1.5)
const duration = new client.Histogram({ name: 'seconds', help: 'Seconds.', buckets: [1, 5] })
for (const seconds of [0.5, 2, 9]) duration.observe(seconds)
const summary = new client.Summary({ name: 'bytes', help: 'Bytes.', percentiles: [0.5] })
for (const bytes of [1, 2, 3]) summary.observe(bytes)

const server = http.createServer(async (request, response) => {
  response.setHeader('Content-Type', client.register.contentType)
  response.end(await client.register.metrics())
})
server.listen(Number(process.argv[2]), '127.0.0.1')
process.stdin.resume()
process.stdin.on('end', () => process.exit(0))
