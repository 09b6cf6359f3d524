// A program that knows nothing of Comet: OpenTelemetry's JavaScript SDK with the OTLP exporters of its own.
//
//     NODE_PATH=.../node_modules node client.cjs grpc|proto|http URL none|gzip SENT
//
// What an exporter was given and reports as sent is written down in the file SENT, one JSON object a line: the signal, and
// the request as the SDK's serializer for protobuf has it, whatever encoding the exporter itself uses.
"use strict";

const fs = require("node:fs");
const { SpanKind, SpanStatusCode, ROOT_CONTEXT, trace } = require("@opentelemetry/api");
const { SeverityNumber } = require("@opentelemetry/api-logs");
const transformer = require("@opentelemetry/otlp-transformer");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BatchLogRecordProcessor, LoggerProvider } = require("@opentelemetry/sdk-logs");
const { AggregationType, MeterProvider, PeriodicExportingMetricReader } = require("@opentelemetry/sdk-metrics");
const { BatchSpanProcessor, NodeTracerProvider } = require("@opentelemetry/sdk-trace-node");

const SUCCESS = 0;
const ROUNDS = 300;
const [protocol, url, compression, sent] = process.argv.slice(2);

function exporter(signal, name, path, serializer) {
  const module = require(`@opentelemetry/exporter-${signal === "traces" ? "trace" : signal}-otlp-${protocol}`);
  const made = new module[name]({ url: protocol === "grpc" ? url : `${url}/v1/${path}`, compression });
  const exportItems = made.export.bind(made);
  made.export = (items, done) => {
    const request = Buffer.from(serializer.serializeRequest(items)).toString("base64");
    exportItems(items, (result) => {
      if (result.code === SUCCESS) fs.appendFileSync(sent, `${JSON.stringify({ signal, request })}\n`);
      else console.error(signal, result.error);
      done(result);
    });
  };
  return made;
}

const resource = resourceFromAttributes({
  "service.name": "javascript",
  "host.ids": ["a", "b"],
  ratio: 0.5,
  count: 3,
});
const tracerProvider = new NodeTracerProvider({
  resource,
  spanProcessors: [
    new BatchSpanProcessor(exporter("traces", "OTLPTraceExporter", "traces", transformer.ProtobufTraceSerializer), {
      maxExportBatchSize: 128,
    }),
  ],
});
const loggerProvider = new LoggerProvider({
  resource,
  processors: [
    new BatchLogRecordProcessor({
      exporter: exporter("logs", "OTLPLogExporter", "logs", transformer.ProtobufLogsSerializer),
      maxExportBatchSize: 128,
    }),
  ],
});
const meterProvider = new MeterProvider({
  resource,
  readers: [
    new PeriodicExportingMetricReader({
      exporter: exporter("metrics", "OTLPMetricExporter", "metrics", transformer.ProtobufMetricsSerializer),
      exportIntervalMillis: 60_000,
    }),
  ],
  views: [{ instrumentName: "exponential", aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }],
});

const tracer = tracerProvider.getTracer("tracer", "1.0", { schemaUrl: "https://example.org/schema" });
const logger = loggerProvider.getLogger("logger");
const meter = meterProvider.getMeter("meter", "2.0");
const instruments = [
  meter.createCounter("counter", { unit: "1", description: "counts" }),
  meter.createUpDownCounter("updown"),
  meter.createHistogram("histogram", { unit: "ms" }),
  meter.createHistogram("exponential"),
  meter.createGauge("gauge"),
];

async function main() {
  for (let round = 0; round < ROUNDS; round += 1) {
    const parent = tracer.startSpan("parent", { kind: SpanKind.SERVER, root: true });
    const context = trace.setSpan(ROOT_CONTEXT, parent);
    const child = tracer.startSpan(
      `child ${round}`,
      {
        kind: SpanKind.CLIENT,
        attributes: {
          text: "naïve 日本語 \u{1F600} \"\\\n",
          long: "x".repeat(round),
          round,
          negative: -round,
          large: Number.MAX_SAFE_INTEGER,
          fraction: round / 7,
          tiny: 5e-324,
          flag: round % 2 === 0,
          list: ["a", "b"],
          numbers: [1, 2.5, -3],
          empty: "",
        },
        links: [{ context: parent.spanContext(), attributes: { why: "link" } }],
      },
      context,
    );
    child.addEvent("event", { round });
    child.recordException(new Error(`failure ${round}`));
    child.setStatus({ code: SpanStatusCode.ERROR, message: "failed" });
    child.end();
    parent.setStatus({ code: SpanStatusCode.OK });
    parent.end();
    logger.emit({
      severityNumber: SeverityNumber.WARN,
      severityText: "WARN",
      body: round % 2 ? `line ${round}` : { nested: { list: [1, "two", false, null], round } },
      attributes: { round, bytes: new Uint8Array([0, 255, 16]) },
      eventName: "event.name",
      context,
    });
    instruments.forEach((instrument) => (instrument.add ?? instrument.record).call(instrument, round / 4, { kind: round % 3 }));
  }
  await tracerProvider.shutdown();
  await loggerProvider.shutdown();
  await meterProvider.shutdown();
}

main();
