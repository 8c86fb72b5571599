//! Walks the shop for one trace and writes a span for each thing that happens.
//!
//! A caller's span holds those of whom it waits for; consumers of a queue start after the message was sent and may
//! end after everything else. A failure is reported by the one who failed and by most of its callers.

use model::{SpanId, TraceId};

use super::attributes::{Attributes, Shopper};
use super::failures;
use super::pods::{Layer, Pods};
use super::proto::{self, Value};
use super::random::Random;
use super::shop::{Call, Door, Model, Operation, SERVICES, Step, Topic};
use super::statements::Query;

/// A span that has ended, or will.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) end_ns: i64,
    pub(super) start_ns: i64,
    pub(super) pod_idx: usize,
    pub(super) layer: u8,
    pub(super) trace_id: TraceId,
    pub(super) id: SpanId,
    /// The OTLP message `Span`.
    pub(super) body: Vec<u8>,
}

/// A message in a queue, as its consumers link to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    trace_id: [u8; 16],
    span_id: SpanId,
}

/// What one trace is made with.
pub(super) struct Walk<'a> {
    pub(super) pods: &'a Pods,
    pub(super) random: &'a mut Random,
    pub(super) shopper: Shopper,
    /// Where spans go, in no order.
    pub(super) spans: &'a mut Vec<Span>,
    /// Emptied buffers for the next spans.
    pub(super) spare: &'a mut Vec<Vec<u8>>,
    /// The latest messages of other traces.
    pub(super) sent: &'a mut Vec<Sent>,
    pub(super) text: &'a mut String,
}

const MAX_SENT: usize = 64;

struct Outcome {
    end_ns: i64,
    failed: bool,
}

/// Who asks: the pod and its span.
#[derive(Clone, Copy)]
struct Caller {
    pod_idx: usize,
    span_id: SpanId,
}

/// The fields of a span before its attributes.
struct Head<'a> {
    pod_idx: usize,
    layer: Layer,
    span_id: SpanId,
    parent: SpanId,
    remote_parent: bool,
    name: [&'a str; 3],
    kind: Kind,
    start_ns: i64,
    end_ns: i64,
}

#[derive(Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

impl Walk<'_> {
    /// Adds the spans of a trace that starts with `entry` at `start_ns`.
    pub(super) fn run(&mut self, entry: &'static Operation, start_ns: i64) {
        let pod_idx = self.pods.any_of(entry.service, self.random);
        self.serve(entry, pod_idx, None, start_ns);
    }

    /// `operation` in the pod at `pod_idx`, asked for at `start_ns`.
    fn serve(
        &mut self,
        operation: &'static Operation,
        pod_idx: usize,
        caller: Option<Caller>,
        start_ns: i64,
    ) -> Outcome {
        let span_id = self.span_id();
        let own_ns = (self.random.log_normal(operation.own_us, 0.45) * 1_000.0) as i64;
        let here = Caller { pod_idx, span_id };
        let mut now_ns = start_ns + own_ns / 3;
        let gap_ns = own_ns / (3 * operation.steps.len().max(1) as i64);
        let mut group_start_ns = now_ns;
        let mut failed = self.random.chance(operation.fail_permyriad);
        let own_failure = failed;
        for step in operation.steps {
            if self.random.below(100) >= u64::from(step.percent) {
                continue;
            }
            if !step.beside {
                now_ns += gap_ns;
                group_start_ns = now_ns;
            }
            let outcome = self.take_step(step, here, group_start_ns);
            now_ns = now_ns.max(outcome.end_ns);
            if outcome.failed && self.random.chance(5_500) {
                failed = true;
                break;
            }
        }
        let end_ns = now_ns + own_ns / 3 + 1_000;
        self.write_served(operation, here, caller, (start_ns, end_ns), failed, own_failure);
        Outcome { end_ns, failed }
    }

    fn take_step(&mut self, step: &Step, here: Caller, start_ns: i64) -> Outcome {
        let n_times = 1 + self.random.below(u64::from(step.max_times));
        let mut outcome = Outcome { end_ns: start_ns, failed: false };
        for _ in 0..n_times {
            let at_ns = outcome.end_ns + 4_000 + self.random.below(9_000) as i64;
            outcome = match step.call {
                Call::Ask(operation) if matches!(operation.door, Door::Inside { .. }) => {
                    self.serve(operation, here.pod_idx, Some(here), at_ns)
                }
                Call::Ask(operation) => self.ask(operation, here, at_ns),
                Call::Query(query) => self.query(query, here, at_ns),
                Call::Publish(topic) => self.publish(topic, here, at_ns),
                Call::Chat(model) => self.chat(model, here, at_ns),
            };
        }
        outcome
    }

    /// A call to another service: the client's span around the server's, with the network between.
    fn ask(&mut self, operation: &'static Operation, here: Caller, start_ns: i64) -> Outcome {
        let span_id = self.span_id();
        let callee_idx = self.pods.any_of(operation.service, self.random);
        let there_ns = self.hop_ns();
        let back_ns = self.hop_ns();
        let client = Caller { pod_idx: here.pod_idx, span_id };
        let served = self.serve(operation, callee_idx, Some(client), start_ns + there_ns);
        let end_ns = served.end_ns + back_ns;
        let name = match operation.door {
            Door::Http { method, .. } => [method, "", ""],
            Door::Rpc { service, method } => [service, "/", method],
            Door::Socket { message } => [message, "", ""],
            Door::Queue { topic, .. } => [topic.name, "", ""],
            Door::Inside { name } => [name, "", ""],
        };
        let head = Head {
            pod_idx: here.pod_idx,
            layer: Layer::Client,
            span_id,
            parent: here.span_id,
            remote_parent: false,
            name,
            kind: Kind::Client,
            start_ns,
            end_ns,
        };
        let mut body = self.begin(&head);
        let callee = &self.pods.all[callee_idx];
        self.attributes(&mut body, here.pod_idx).client(operation, callee, served.failed);
        let status = if served.failed { "13 INTERNAL: upstream failed" } else { "" };
        self.finish(body, &head, status);
        Outcome { end_ns, failed: served.failed }
    }

    fn query(&mut self, query: &'static Query, here: Caller, start_ns: i64) -> Outcome {
        let span_id = self.span_id();
        let failed = self.random.chance(query.fail_permyriad);
        let end_ns = start_ns + (self.random.log_normal(query.median_us, 0.55) * 1_000.0) as i64;
        let space = if query.collection.is_empty() { "" } else { " " };
        let head = Head {
            pod_idx: here.pod_idx,
            layer: Layer::Database,
            span_id,
            parent: here.span_id,
            remote_parent: false,
            name: [query.operation, space, query.collection],
            kind: Kind::Client,
            start_ns,
            end_ns,
        };
        let mut body = self.begin(&head);
        self.attributes(&mut body, here.pod_idx).query(query);
        let status = if failed { "canceling statement due to statement timeout" } else { "" };
        if failed {
            self.exception(&mut body, here.pod_idx, end_ns);
        }
        self.finish(body, &head, status);
        Outcome { end_ns, failed }
    }

    fn publish(&mut self, topic: &'static Topic, here: Caller, start_ns: i64) -> Outcome {
        let span_id = self.span_id();
        let end_ns = start_ns + (self.random.log_normal(1_200.0, 0.5) * 1_000.0) as i64;
        let head = Head {
            pod_idx: here.pod_idx,
            layer: Layer::Messaging,
            span_id,
            parent: here.span_id,
            remote_parent: false,
            name: ["send ", topic.name, ""],
            kind: Kind::Producer,
            start_ns,
            end_ns,
        };
        let mut body = self.begin(&head);
        self.attributes(&mut body, here.pod_idx).publish(topic);
        self.finish(body, &head, "");
        let sent = Sent { trace_id: self.shopper.trace_id, span_id };
        if self.sent.len() < MAX_SENT {
            self.sent.push(sent);
        } else {
            let place = self.random.below(MAX_SENT as u64) as usize;
            self.sent[place] = sent;
        }
        for consumer in topic.consumers {
            let waiting_ns = (self.random.log_normal(9_000.0, 0.8) * 1_000.0) as i64;
            let pod_idx = self.pods.any_of(consumer.service, self.random);
            let producer = Caller { pod_idx: here.pod_idx, span_id };
            self.serve(consumer, pod_idx, Some(producer), end_ns + waiting_ns);
        }
        Outcome { end_ns, failed: false }
    }

    fn chat(&mut self, model: &'static Model, here: Caller, start_ns: i64) -> Outcome {
        let span_id = self.span_id();
        let failed = self.random.chance(model.fail_permyriad);
        let duration_ns = (self.random.log_normal(model.median_us, 0.6) * 1_000.0) as i64;
        let end_ns = start_ns + duration_ns;
        let name_idx = self.random.skewed(model.names.len() as u64) as usize;
        let head = Head {
            pod_idx: here.pod_idx,
            layer: Layer::Model,
            span_id,
            parent: here.span_id,
            remote_parent: false,
            name: [model.operation, " ", model.names[name_idx].0],
            kind: Kind::Client,
            start_ns,
            end_ns,
        };
        let mut body = self.begin(&head);
        self.attributes(&mut body, here.pod_idx).chat(model, name_idx, duration_ns, failed);
        let first_token_ns = start_ns + duration_ns / 5;
        event(&mut body, first_token_ns, "gen_ai.first_token", &[("gen_ai.token.type", "output".into())]);
        let status = if failed { "429 Rate limit reached for requests" } else { "" };
        if failed {
            self.exception(&mut body, here.pod_idx, end_ns);
        }
        self.finish(body, &head, status);
        Outcome { end_ns, failed }
    }

    fn write_served(
        &mut self,
        operation: &Operation,
        here: Caller,
        caller: Option<Caller>,
        (start_ns, end_ns): (i64, i64),
        failed: bool,
        own_failure: bool,
    ) {
        let (name, kind, layer) = match operation.door {
            Door::Http { method, route } => ([method, " ", route], Kind::Server, Layer::Server),
            Door::Rpc { service, method } => ([service, "/", method], Kind::Server, Layer::Server),
            Door::Socket { message } => (["websocket ", message, ""], Kind::Server, Layer::Server),
            Door::Queue { topic, .. } => (["process ", topic.name, ""], Kind::Consumer, Layer::Messaging),
            Door::Inside { name } => ([name, "", ""], Kind::Internal, Layer::Application),
        };
        let head = Head {
            pod_idx: here.pod_idx,
            layer,
            span_id: here.span_id,
            parent: caller.map_or(SpanId::NONE, |caller| caller.span_id),
            remote_parent: caller.is_some_and(|_| layer != Layer::Application),
            name,
            kind,
            start_ns,
            end_ns,
        };
        let mut body = self.begin(&head);
        let peer = caller.map(|caller| &self.pods.all[caller.pod_idx]);
        self.attributes(&mut body, here.pod_idx).server(operation, peer, failed);
        match operation.door {
            Door::Socket { message } => {
                let size = 40 + self.random.skewed(2_000) as i64;
                let received =
                    [("message.type", "RECEIVED".into()), ("message.uncompressed_size", size.into())];
                event(&mut body, start_ns + 20_000, "message", &received);
                event(
                    &mut body,
                    end_ns - 500,
                    "message",
                    &[("message.type", "SENT".into()), ("message.id", message.into())],
                );
            }
            Door::Rpc { method: "PlaceOrder", .. } => {
                event(&mut body, start_ns + (end_ns - start_ns) / 4, "prepared", &[]);
                event(
                    &mut body,
                    end_ns - 90_000,
                    "charged",
                    &[("app.payment.transaction", "captured".into())],
                );
            }
            _ => {}
        }
        if own_failure {
            self.exception(&mut body, here.pod_idx, end_ns - 1_000);
        }
        if matches!(operation.door, Door::Queue { .. }) {
            self.link(&mut body, caller);
        }
        let status = match (failed, own_failure) {
            (false, _) => "",
            (true, true) => failures::exceptions(SERVICES[operation.service].language)[0].message,
            (true, false) => "a dependency failed",
        };
        self.finish(body, &head, status);
    }

    /// A consumer links to the message it works on; one that started the trace links to up to three of a batch.
    fn link(&mut self, body: &mut Vec<u8>, producer: Option<Caller>) {
        if let Some(producer) = producer {
            write_link(body, Sent { trace_id: self.shopper.trace_id, span_id: producer.span_id });
            return;
        }
        if self.sent.is_empty() {
            return;
        }
        for _ in 0..=self.random.below(3) {
            let place = self.random.below(self.sent.len() as u64) as usize;
            write_link(body, self.sent[place]);
        }
    }

    fn exception(&mut self, body: &mut Vec<u8>, pod_idx: usize, at_ns: i64) {
        let language = SERVICES[self.pods.all[pod_idx].service].language;
        let exception = self.random.pick(failures::exceptions(language));
        let attributes = [
            ("exception.type", exception.kind.into()),
            ("exception.message", exception.message.into()),
            ("exception.stacktrace", exception.stack.into()),
        ];
        event(body, at_ns, "exception", &attributes);
    }

    fn begin(&mut self, head: &Head<'_>) -> Vec<u8> {
        let mut body = self.spare.pop().unwrap_or_default();
        proto::bytes(&mut body, 1, &self.shopper.trace_id);
        proto::bytes(&mut body, 2, &head.span_id.0);
        if !head.parent.is_none() {
            proto::bytes(&mut body, 4, &head.parent.0);
        }
        proto::header(&mut body, 5, head.name.iter().map(|part| part.len()).sum());
        for part in head.name {
            body.extend_from_slice(part.as_bytes());
        }
        proto::number(&mut body, 6, head.kind as u64);
        proto::fixed64(&mut body, 7, head.start_ns as u64);
        proto::fixed64(&mut body, 8, head.end_ns as u64);
        body
    }

    fn attributes<'b>(&'b mut self, out: &'b mut Vec<u8>, pod_idx: usize) -> Attributes<'b> {
        Attributes {
            out,
            text: self.text,
            random: self.random,
            shopper: &self.shopper,
            pod: &self.pods.all[pod_idx],
        }
    }

    /// Adds the span; an empty `error` means that nothing failed.
    fn finish(&mut self, mut body: Vec<u8>, head: &Head<'_>, error: &str) {
        if !error.is_empty() {
            proto::header(&mut body, 15, proto::field_len(error.len()) + 2);
            proto::bytes(&mut body, 2, error.as_bytes());
            proto::number(&mut body, 3, 2);
        }
        // Sampled; whether the parent is remote is known, and the answer.
        proto::span_flags(&mut body, if head.remote_parent { 0x301 } else { 0x101 });
        self.spans.push(Span {
            end_ns: head.end_ns,
            start_ns: head.start_ns,
            pod_idx: head.pod_idx,
            layer: head.layer as u8,
            trace_id: TraceId(self.shopper.trace_id),
            id: head.span_id,
            body,
        });
    }

    fn span_id(&mut self) -> SpanId {
        SpanId((self.random.next() | 1).to_be_bytes())
    }

    fn hop_ns(&mut self) -> i64 {
        (self.random.log_normal(180.0, 0.4) * 1_000.0) as i64
    }
}

fn event(body: &mut Vec<u8>, at_ns: i64, name: &str, attributes: &[(&str, Value<'_>)]) {
    let mut event = Vec::with_capacity(64);
    proto::fixed64(&mut event, 1, at_ns as u64);
    proto::bytes(&mut event, 2, name.as_bytes());
    for (key, value) in attributes {
        proto::attribute(&mut event, 3, key, *value);
    }
    proto::bytes(body, 11, &event);
}

fn write_link(body: &mut Vec<u8>, sent: Sent) {
    let mut link = Vec::with_capacity(64);
    proto::bytes(&mut link, 1, &sent.trace_id);
    proto::bytes(&mut link, 2, &sent.span_id.0);
    proto::attribute(&mut link, 4, "messaging.batch.position", 0.into());
    proto::bytes(body, 13, &link);
}
