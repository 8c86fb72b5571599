// Sends one trace with every kind of value that the JavaScript SDK knows, by the exporter named in the arguments:
//   node send.mjs proto|json none|gzip http://127.0.0.1:PORT SERVICE
// Prints the trace id. Exits with an error if the exporter reported one.

import { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, diag, DiagLogLevel, trace } from '@opentelemetry/api';
import { OTLPTraceExporter as JsonExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { OTLPTraceExporter as ProtoExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

const [encoding, compression, url, service] = process.argv.slice(2);
const errors = [];
const note = (...parts) => errors.push(parts.join(' '));
diag.setLogger({ error: note, warn: note, info() {}, debug() {}, verbose() {} }, DiagLogLevel.WARN);

const Exporter = encoding === 'json' ? JsonExporter : ProtoExporter;
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ 'service.name': service, 'service.instance.id': 'a-1', 'process.pid': 7 }),
  spanProcessors: [new BatchSpanProcessor(new Exporter({ url: `${url}/v1/traces`, compression }))],
});
const tracer = provider.getTracer('shop', '1.2.3', { schemaUrl: 'https://opentelemetry.io/schemas/1.27.0' });

const root = tracer.startSpan(
  'GET /cart/:id',
  {
    kind: SpanKind.SERVER,
    root: true,
    startTime: [Math.floor(Date.now() / 1000) - 5, 123456789],
    attributes: {
      text: 'naïve 日本語 🦀 "quoted" \\ \n',
      empty: '',
      yes: true,
      no: false,
      zero: 0,
      int: 42,
      negative: -7,
      large: Number.MAX_SAFE_INTEGER,
      double: 0.1,
      tiny: 5e-324,
      // No large doubles: this SDK takes every whole number for an int64, whatever its size.
      small: 1.5e-300,
      texts: ['a', '', 'c'],
      ints: [1, -2, 3],
      doubles: [0.5, -1.25],
      bools: [true, false],
      none: [],
    },
  },
  ROOT_CONTEXT,
);
const under = trace.setSpan(ROOT_CONTEXT, root);

const kinds = [SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER];
const children = kinds.map((kind, i) => {
  const child = tracer.startSpan(`step ${i}`, { kind, attributes: { 'step.index': i } }, under);
  child.addEvent('cache.miss', { key: `k${i}`, attempt: i, ratio: 0.25, cold: i === 0 });
  child.addEvent('bare');
  child.setStatus(i === 1 ? { code: SpanStatusCode.ERROR, message: 'connection refused' } : { code: i === 2 ? SpanStatusCode.OK : SpanStatusCode.UNSET });
  return child;
});
children[1].recordException(new Error('boom'));

const linked = tracer.startSpan(
  'linked',
  {
    links: [
      { context: children[0].spanContext(), attributes: { why: 'follows', weight: 2 } },
      { context: { traceId: 'ab'.repeat(16), spanId: 'cd'.repeat(8), traceFlags: TraceFlags.SAMPLED, isRemote: true } },
    ],
  },
  under,
);
linked.end();
children.forEach((child) => child.end());
root.end();

await provider.forceFlush();
await provider.shutdown();
if (errors.length > 0) {
  console.error(errors.join('\n'));
  process.exit(1);
}
console.log(root.spanContext().traceId);
