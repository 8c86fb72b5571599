// Records with every instrument of the JavaScript SDK and sends once, by the exporter named in the arguments:
//   node metrics.mjs proto|json cumulative|delta http://127.0.0.1:PORT SERVICE
// Exits with an error if the exporter reported one.

import { diag, DiagLogLevel } from '@opentelemetry/api';
import { AggregationTemporalityPreference, OTLPMetricExporter as JsonExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPMetricExporter as ProtoExporter } from '@opentelemetry/exporter-metrics-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';

const [encoding, temporality, url, service] = process.argv.slice(2);
const errors = [];
const note = (...parts) => errors.push(parts.join(' '));
diag.setLogger({ error: note, warn: note, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const Exporter = encoding === 'json' ? JsonExporter : ProtoExporter;
const temporalityPreference = AggregationTemporalityPreference[temporality.toUpperCase()];
const reader = new PeriodicExportingMetricReader({
  exporter: new Exporter({ url: `${url}/v1/metrics`, temporalityPreference }),
  exportIntervalMillis: 3_600_000,
});
const provider = new MeterProvider({ resource: resourceFromAttributes({ 'service.name': service, 'host.name': 'h1' }), readers: [reader] });
const meter = provider.getMeter('shop', '1.2.3');

const sold = meter.createCounter('items.sold', { unit: '{item}', description: 'Items sold.' });
const stock = meter.createUpDownCounter('stock.level');
const latency = meter.createHistogram('http.server.request.duration', { unit: 's' });
meter.createObservableGauge('cpu.utilization', { unit: '1' }).addCallback((result) => result.observe(0.25, { core: '0' }));
meter.createObservableCounter('bytes.read', { unit: 'By' }).addCallback((result) => result.observe(4096));

sold.add(3, { colour: 'red' });
sold.add(4, { colour: 'blue' });
stock.add(10);
stock.add(-4);
for (const seconds of [0.003, 0.2, 0.2, 30]) latency.record(seconds, { 'http.route': '/cart' });
await provider.forceFlush();
sold.add(5, { colour: 'red' });
await provider.forceFlush();
await provider.shutdown();
if (errors.length > 0) {
  console.error(errors.join('\n'));
  process.exit(1);
}
