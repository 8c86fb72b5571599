//! The attributes of each type of span, as the instrumentation libraries of 2026 set them.
//! Source: OpenTelemetry semantic conventions 1.37; `app.*` is the shop's own.

use std::fmt::Write as _;

use super::pods::{Pod, push_hex, push_uuid};
use super::proto::{self, Value};
use super::random::Random;
use super::shop::{Detail, Door, Language, Model, Operation, SERVICES, Topic};
use super::statements::Query;

/// What all spans of a trace share.
#[derive(Debug, Clone)]
pub(super) struct Shopper {
    pub(super) trace_id: [u8; 16],
    user: u64,
    session: (u64, u64),
    product: u64,
    cart: u64,
    order: (u64, u64),
    client: [u8; 2],
    agent: &'static str,
    provider: &'static str,
}

impl Shopper {
    pub(super) fn new(random: &mut Random) -> Self {
        let (high, low) = (random.next(), random.next());
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&high.to_be_bytes());
        trace_id[8..].copy_from_slice(&low.to_be_bytes());
        let provider = match random.below(100) {
            0..50 => "stripe",
            50..75 => "adyen",
            75..92 => "paypal",
            _ => "klarna",
        };
        Self {
            trace_id,
            user: 10_000_000 + random.skewed(900_000),
            session: (random.next(), random.next()),
            product: 100_000 + random.skewed(40_000),
            cart: random.next(),
            order: (random.next(), random.next()),
            client: [random.below(256) as u8, random.below(254) as u8 + 1],
            agent: random.pick(&AGENTS),
            provider,
        }
    }
}

const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:144.0) Gecko/20100101 Firefox/144.0",
    "ShopApp/7.4.1 (Android 16; SM-S931B) okhttp/5.1.0",
    "ShopApp/7.4.0 (iOS 18.6; iPhone17,1) CFNetwork/3826",
];

/// Writes the attributes of one span.
pub(super) struct Attributes<'a> {
    pub(super) out: &'a mut Vec<u8>,
    /// Scratch for composed values.
    pub(super) text: &'a mut String,
    pub(super) random: &'a mut Random,
    pub(super) shopper: &'a Shopper,
    /// Where the span runs.
    pub(super) pod: &'a Pod,
}

impl Attributes<'_> {
    fn put<'v>(&mut self, key: &str, value: impl Into<Value<'v>>) {
        proto::attribute(self.out, 9, key, value.into());
    }

    fn put_text(&mut self, key: &str, compose: impl FnOnce(&mut String, &mut Random, &Shopper)) {
        self.text.clear();
        compose(self.text, self.random, self.shopper);
        proto::attribute(self.out, 9, key, Value::Text(self.text));
    }

    /// A whole number from `least` to, not including, `least + bound`.
    fn put_uniform(&mut self, key: &str, least: i64, bound: u64) {
        let number = least + self.random.below(bound) as i64;
        self.put(key, number);
    }

    /// As [`Self::put_uniform`], small numbers more often.
    fn put_skewed(&mut self, key: &str, least: i64, bound: u64) {
        let number = least + self.random.skewed(bound) as i64;
        self.put(key, number);
    }

    fn put_any<'v, V: Into<Value<'v>> + Copy>(&mut self, key: &str, from: &[V]) {
        let place = self.random.below(from.len() as u64) as usize;
        self.put(key, from[place]);
    }

    fn put_uuid(&mut self, key: &str) {
        self.put_text(key, |text, random, _| push_uuid(text, random.next(), random.next()));
    }

    fn thread(&mut self) {
        match SERVICES[self.pod.service].language {
            Language::Java => {
                let thread = self.random.below(48) as i64;
                self.put("thread.id", 40 + thread);
                self.put_text("thread.name", |text, _, _| {
                    push(text, format_args!("grpc-default-executor-{thread}"));
                });
            }
            Language::Rust => {
                let thread = self.random.below(4) as i64;
                self.put("thread.id", 2 + thread);
                self.put("thread.name", "tokio-runtime-worker");
            }
            Language::Go | Language::Node | Language::Python | Language::Dotnet => {}
        }
    }

    /// The side that answers.
    pub(super) fn server(&mut self, operation: &Operation, caller: Option<&Pod>, failed: bool) {
        match operation.door {
            Door::Http { method, route } => self.http_server(method, route, caller, failed),
            Door::Rpc { service, method } => {
                self.rpc(service, method, failed);
                self.put("server.address", SERVICES[operation.service].name);
                self.put("server.port", 8080);
                self.put_text("enduser.id", |text, _, shopper| {
                    push(text, format_args!("u_{}", shopper.user));
                });
                self.put_text("rpc.request.metadata.x-request-id", |text, random, _| {
                    push_hex(text, random.next(), 16);
                    push_hex(text, random.next(), 8);
                });
                if let Some(caller) = caller {
                    self.put("client.address", caller.ip.as_str());
                    self.put("network.type", "ipv4");
                }
            }
            Door::Socket { message } => self.socket(message),
            Door::Queue { topic, group } => self.consume(topic, group),
            Door::Inside { name } => {
                self.put("code.function.name", name);
                self.put_uniform("code.line.number", 100, 40);
                self.put("code.file.path", "src/handlers/domain.rs");
                self.put("app.build.commit", "9f31c07de2b45a61");
                self.put("app.cell", "eu-central-1/blue/2");
                self.put("app.attempt", 1);
                self.put_skewed("app.items", 1, 60);
                self.put("app.deadline_ms", 2_000);
            }
        }
        self.detail(operation.detail);
        self.thread();
    }

    /// The side that asks.
    pub(super) fn client(&mut self, operation: &Operation, callee: &Pod, failed: bool) {
        let host = SERVICES[operation.service].name;
        match operation.door {
            Door::Http { method, route } => {
                self.put("http.request.method", method);
                self.put_text("url.full", |text, _, shopper| {
                    push(text, format_args!("http://{host}:8080"));
                    push_path(text, route, shopper);
                });
                self.put("http.response.status_code", if failed { 500 } else { 200 });
                self.put("network.protocol.version", "1.1");
            }
            Door::Rpc { service, method } => self.rpc(service, method, failed),
            Door::Socket { .. } | Door::Queue { .. } | Door::Inside { .. } => {}
        }
        self.put("server.address", host);
        self.put("server.port", 8080);
        self.put("network.peer.address", callee.ip.as_str());
        self.put("network.peer.port", 8080);
        self.put("network.type", "ipv4");
        self.thread();
    }

    fn http_server(&mut self, method: &str, route: &str, caller: Option<&Pod>, failed: bool) {
        self.put("http.request.method", method);
        self.put("http.route", route);
        self.put_text("url.path", |text, _, shopper| push_path(text, route, shopper));
        self.put("http.response.status_code", if failed { 500 } else { 200 });
        self.put("server.port", if caller.is_some() { 8080 } else { 443 });
        if let Some(caller) = caller {
            self.put("server.address", SERVICES[self.pod.service].name);
            self.put("network.peer.address", caller.ip.as_str());
            self.put_uniform("network.peer.port", 32_768, 28_000);
        } else {
            self.put("server.address", "shop.example.com");
            self.client_address();
            self.put("user_agent.original", self.shopper.agent);
            self.put_uuid("http.request.header.x-request-id");
            self.identity();
        }
    }

    fn client_address(&mut self) {
        self.put_text("client.address", |text, _, shopper| {
            push(text, format_args!("203.0.{}.{}", shopper.client[0], shopper.client[1]));
        });
    }

    fn identity(&mut self) {
        self.put_text("enduser.id", |text, _, shopper| push(text, format_args!("u_{}", shopper.user)));
        self.put_text("session.id", |text, _, shopper| push_uuid(text, shopper.session.0, shopper.session.1));
    }

    fn rpc(&mut self, service: &str, method: &str, failed: bool) {
        self.put("rpc.system", "grpc");
        self.put("rpc.service", service);
        self.put("rpc.method", method);
        self.put("network.transport", "tcp");
        self.put("rpc.grpc.status_code", if failed { 13 } else { 0 });
    }

    fn socket(&mut self, message: &str) {
        self.put("network.protocol.name", "websocket");
        self.put("network.protocol.version", "13");
        self.put("websocket.message.type", message);
        self.put_skewed("websocket.message.size", 40, 2_000);
        self.put_uuid("websocket.connection.id");
        self.put("server.address", "live.shop.example.com");
        self.put("server.port", 443);
        self.put("user_agent.original", self.shopper.agent);
        self.client_address();
        self.identity();
    }

    /// A statement and its answer.
    pub(super) fn query(&mut self, query: &Query) {
        self.put("db.system.name", query.system);
        self.put("db.namespace", query.namespace);
        self.put("db.operation.name", query.operation);
        if !query.collection.is_empty() {
            self.put("db.collection.name", query.collection);
        }
        self.put_text("db.query.text", |text, _, shopper| {
            let number = if query.host == "redis-catalog" { shopper.product } else { shopper.user };
            for (i, part) in query.text.split("{}").enumerate() {
                if i > 0 {
                    push(text, format_args!("{number}"));
                }
                text.push_str(part);
            }
        });
        self.put_text("server.address", |text, _, _| {
            push(text, format_args!("{}.shop-data.svc.cluster.local", query.host));
        });
        self.put("server.port", i64::from(query.port));
        self.put("network.peer.address", if query.port == 5432 { "10.44.3.18" } else { "10.44.7.102" });
        self.put("network.peer.port", i64::from(query.port));
        if query.system != "redis" {
            self.put_skewed("db.response.returned_rows", 0, 40);
        }
        self.thread();
    }

    /// A message on its way into a queue.
    pub(super) fn publish(&mut self, topic: &Topic) {
        self.messaging(topic);
        self.put("messaging.operation.name", "send");
        self.put("messaging.operation.type", "send");
        self.put("messaging.client.id", self.pod.name.as_str());
        self.put_text("messaging.kafka.message.key", |text, _, shopper| {
            push(text, format_args!("{}", shopper.user));
        });
        self.thread();
    }

    fn consume(&mut self, topic: &Topic, group: &str) {
        self.messaging(topic);
        self.put("messaging.operation.name", "process");
        self.put("messaging.operation.type", "process");
        self.put("messaging.consumer.group.name", group);
        self.put("messaging.client.id", self.pod.name.as_str());
        self.put_skewed("messaging.kafka.message.lag_ms", 0, 5_000);
    }

    fn messaging(&mut self, topic: &Topic) {
        self.put("messaging.system", "kafka");
        self.put("messaging.destination.name", topic.name);
        self.put_text("messaging.destination.partition.id", |text, random, _| {
            push(text, format_args!("{}", random.below(u64::from(topic.n_partitions))));
        });
        self.put_uniform("messaging.kafka.offset", 48_000_000, 900_000);
        self.put_uuid("messaging.message.id");
        self.put_skewed("messaging.message.body.size", 300, 4_000);
        self.put("server.address", "kafka-bootstrap.shop-data.svc.cluster.local");
        self.put("server.port", 9092);
    }

    /// A call to a language model that took `duration_ns`.
    pub(super) fn chat(&mut self, model: &Model, name_idx: usize, duration_ns: i64, failed: bool) {
        let (asked, answered) = model.names[name_idx];
        self.put("gen_ai.operation.name", model.operation);
        self.put("gen_ai.provider.name", model.provider);
        self.put("gen_ai.request.model", asked);
        self.put("gen_ai.request.max_tokens", 1_024);
        self.put_any(
            "gen_ai.request.temperature",
            &[Value::Double(0.0), Value::Double(0.2), Value::Double(0.7)],
        );
        self.put("gen_ai.request.stream", Value::Bool(true));
        self.put("server.address", model.host);
        self.put("server.port", 443);
        self.put_text("gen_ai.conversation.id", |text, _, shopper| {
            push_uuid(text, shopper.session.1, shopper.session.0);
        });
        if failed {
            self.put("error.type", "rate_limit_exceeded");
            return;
        }
        self.put("gen_ai.response.model", answered);
        self.put_text("gen_ai.response.id", |text, random, _| {
            text.push_str("chatcmpl-");
            push_hex(text, random.next(), 16);
            push_hex(text, random.next(), 13);
        });
        let finish = if self.random.chance(600) { "tool_calls" } else { "stop" };
        self.put("gen_ai.response.finish_reasons", Value::Texts(&[finish]));
        self.put_skewed("gen_ai.usage.input_tokens", 600, 6_000);
        self.put("gen_ai.usage.output_tokens", 1 + duration_ns / 9_000_000);
    }

    fn detail(&mut self, detail: Detail) {
        match detail {
            Detail::Nothing => {}
            Detail::Product => {
                self.put_text("app.product.id", |text, _, shopper| {
                    push(text, format_args!("P-{}", shopper.product));
                });
            }
            Detail::Cart => {
                self.put_text("app.cart.id", |text, _, shopper| push_hex(text, shopper.cart, 16));
                self.put_skewed("app.cart.items", 1, 12);
            }
            Detail::Checkout => {
                self.put_text("app.order.id", |text, _, shopper| {
                    push_uuid(text, shopper.order.0, shopper.order.1);
                });
                let amount = 9.99 + self.random.skewed(40_000) as f64 / 100.0;
                self.put("app.order.amount", Value::Double(amount));
                self.put_skewed("app.order.items", 1, 12);
                self.put("payment.provider", self.shopper.provider);
                // One shopper in 100 is one of the first customers: the rare value to search for.
                let tier = ["founder", "gold", "standard", "standard"];
                let place =
                    if self.shopper.user % 100 == 7 { 0 } else { 1 + (self.shopper.user % 3) as usize };
                self.put("customer.tier", tier[place]);
            }
            Detail::Payment => {
                self.put_text("app.order.id", |text, _, shopper| {
                    push_uuid(text, shopper.order.0, shopper.order.1);
                });
                self.put("payment.provider", self.shopper.provider);
                self.put_any("payment.method", &["card", "card", "wallet", "invoice"]);
                self.put("app.currency", "EUR");
            }
            Detail::Search => {
                self.put_any("app.search.terms", &TERMS);
                self.put_skewed("app.search.hits", 0, 900);
                self.put_skewed("app.page", 1, 8);
            }
            Detail::Vector => {
                self.put("db.collection.name", "products-768");
                self.put_any("db.vector.query.top_k", &[10_i64, 20, 50]);
                let (score, exact) = (self.random.below(1_000) as f64 / 1_000.0, self.random.chance(300));
                self.put("db.vector.score.best", Value::Double(score));
                self.put("db.vector.exact", Value::Bool(exact));
            }
            Detail::Prompt => {
                self.put_any("llm.route", &["cheap", "cheap", "fast", "best"]);
                self.put("llm.prompt.template", "shop-assistant/v14");
                self.put_skewed("llm.prompt.tokens", 600, 6_000);
                self.put_text("session.id", |text, _, shopper| {
                    push_uuid(text, shopper.session.0, shopper.session.1);
                });
            }
            Detail::Shipment => {
                self.put_any("shipping.carrier", &["dhl", "dpd", "gls", "ups"]);
                self.put_any("shipping.zone", &["de", "at", "nl", "fr"]);
                self.put_skewed("shipping.weight_g", 100, 9_000);
            }
        }
    }
}

const TERMS: [&str; 12] = [
    "running shoes",
    "coffee grinder",
    "usb c cable",
    "winter jacket",
    "bike light",
    "desk lamp",
    "standing desk",
    "water bottle",
    "headphones",
    "chef knife",
    "yoga mat",
    "board game",
];

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: writing to a string succeeds");
}

/// Appends `route` with its placeholders filled in.
fn push_path(out: &mut String, route: &str, shopper: &Shopper) {
    for (i, part) in route.split('/').enumerate() {
        if i > 0 {
            out.push('/');
        }
        match part {
            "{product}" => push(out, format_args!("P-{}", shopper.product)),
            "{cart}" => push_hex(out, shopper.cart, 16),
            "{order}" => push_uuid(out, shopper.order.0, shopper.order.1),
            fixed => out.push_str(fixed),
        }
    }
}
