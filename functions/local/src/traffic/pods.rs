//! Where the services run: 86 pods with their resource attributes, and the scopes of their instrumentation.
//! Both are encoded once; a request copies the bytes.

use super::proto::{self, Value};
use super::random::Random;
use super::shop::{Language, SERVICES, ServiceIdx};

/// One running copy of a service.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) service: ServiceIdx,
    pub(super) name: String,
    pub(super) ip: String,
    /// `ResourceSpans.resource` with its tag and length.
    pub(super) resource: Vec<u8>,
}

/// All pods, those of a service next to each other.
#[derive(Debug)]
pub(super) struct Pods {
    pub(super) all: Vec<Pod>,
    first_of_service: Vec<usize>,
    /// `ScopeSpans.scope` with its tag and length, by language and layer.
    scopes: Vec<Vec<u8>>,
}

/// What of a service an instrumentation library watches; each has its own scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Server,
    Client,
    Database,
    Messaging,
    Model,
    Application,
}

const N_LAYERS: usize = 6;
const LANGUAGES: [Language; 6] =
    [Language::Go, Language::Java, Language::Node, Language::Python, Language::Dotnet, Language::Rust];

impl Pods {
    /// Pods with names, addresses and ids from `random`.
    pub(super) fn new(random: &mut Random) -> Self {
        let mut all = Vec::new();
        let mut first_of_service = vec![0];
        for (service_idx, service) in SERVICES.iter().enumerate() {
            let replica_set = random.next();
            for _ in 0..service.n_pods {
                all.push(pod(service_idx, replica_set, random));
            }
            first_of_service.push(all.len());
        }
        let scopes = LANGUAGES.iter().flat_map(|language| scope_names(*language).map(scope)).collect();
        Self { all, first_of_service, scopes }
    }

    /// Position of any pod of `service`; kept-alive connections give the first ones more work.
    pub(super) fn any_of(&self, service: ServiceIdx, random: &mut Random) -> usize {
        let (first, end) = (self.first_of_service[service], self.first_of_service[service + 1]);
        let n_pods = (end - first) as u64;
        first + random.below(n_pods).min(random.below(n_pods)) as usize
    }

    /// The encoded scope of `layer` in the pod at `pod_idx`.
    pub(super) fn scope(&self, pod_idx: usize, layer: u8) -> &[u8] {
        let language = SERVICES[self.all[pod_idx].service].language as usize;
        &self.scopes[language * N_LAYERS + usize::from(layer)]
    }
}

fn pod(service_idx: ServiceIdx, replica_set: u64, random: &mut Random) -> Pod {
    let service = &SERVICES[service_idx];
    let (zone, node) = (random.below(3), random.below(4));
    let node_name = format!("ip-10-{}-{}-17.ec2.internal", 40 + zone, 16 + node * 8);
    let ip = format!("10.{}.{}.{}", 40 + zone, 16 + node * 8 + random.below(8), 2 + random.below(250));
    let name = format!("{}-{:010x}-{}", service.name, replica_set >> 24, letters(random));
    let image = format!("registry.example.com/shop/{}", service.name);
    let container_id =
        format!("{:016x}{:016x}{:016x}{:016x}", random.next(), random.next(), random.next(), random.next());
    let (sdk_language, sdk_version) = match service.language {
        Language::Go => ("go", "1.38.0"),
        Language::Java => ("java", "1.54.1"),
        Language::Node => ("nodejs", "2.2.0"),
        Language::Python => ("python", "1.38.0"),
        Language::Dotnet => ("dotnet", "1.13.1"),
        Language::Rust => ("rust", "0.31.0"),
    };
    // The operator for Kubernetes makes the pod's uid the instance's id.
    let uid = uuid(random.next(), random.next());
    // What the SDK knows, then what the collector adds.
    let attributes: [(&str, Value<'_>); 20] = [
        ("service.name", service.name.into()),
        ("service.namespace", service.namespace.into()),
        ("service.version", service.version.into()),
        ("telemetry.sdk.language", sdk_language.into()),
        ("telemetry.sdk.version", sdk_version.into()),
        ("process.pid", Value::Int(1)),
        ("os.type", "linux".into()),
        ("k8s.cluster.name", "shop-blue".into()),
        ("k8s.namespace.name", service.namespace.into()),
        ("k8s.deployment.name", service.name.into()),
        ("container.image.name", image.as_str().into()),
        ("container.image.tag", service.version.into()),
        (
            "cloud.availability_zone",
            ["eu-central-1a", "eu-central-1b", "eu-central-1c"][zone as usize].into(),
        ),
        ("host.name", node_name.as_str().into()),
        ("k8s.node.name", node_name.as_str().into()),
        ("k8s.pod.ip", ip.as_str().into()),
        ("k8s.pod.name", name.as_str().into()),
        ("k8s.pod.uid", uid.as_str().into()),
        ("service.instance.id", uid.as_str().into()),
        ("container.id", container_id.as_str().into()),
    ];
    let mut body = Vec::new();
    for (key, value) in attributes {
        proto::attribute(&mut body, 1, key, value);
    }
    let mut resource = Vec::new();
    proto::bytes(&mut resource, 1, &body);
    Pod { service: service_idx, name, ip, resource }
}

fn scope((name, version): (&str, &str)) -> Vec<u8> {
    let mut body = Vec::new();
    proto::bytes(&mut body, 1, name.as_bytes());
    proto::bytes(&mut body, 2, version.as_bytes());
    let mut scope = Vec::new();
    proto::bytes(&mut scope, 1, &body);
    scope
}

/// Name and version of the instrumentation in the order of [`Layer`].
fn scope_names(language: Language) -> [(&'static str, &'static str); N_LAYERS] {
    match language {
        Language::Go => [
            ("go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "0.63.0"),
            ("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.63.0"),
            ("github.com/exaring/otelpgx", "0.9.3"),
            ("github.com/dnwe/otelsarama", "0.5.1"),
            ("github.com/shop/llm", "1.0.0"),
            ("github.com/shop/telemetry", "1.0.0"),
        ],
        Language::Java => [
            ("io.opentelemetry.grpc-1.6", "2.20.1-alpha"),
            ("io.opentelemetry.java-http-client", "2.20.1-alpha"),
            ("io.opentelemetry.jdbc", "2.20.1-alpha"),
            ("io.opentelemetry.kafka-clients-0.11", "2.20.1-alpha"),
            ("io.opentelemetry.openai-java-1.1", "2.20.1-alpha"),
            ("io.opentelemetry.opentelemetry-instrumentation-annotations-1.16", "2.20.1-alpha"),
        ],
        Language::Node => [
            ("@opentelemetry/instrumentation-http", "0.207.0"),
            ("@opentelemetry/instrumentation-grpc", "0.207.0"),
            ("@opentelemetry/instrumentation-ioredis", "0.55.0"),
            ("@opentelemetry/instrumentation-kafkajs", "0.17.0"),
            ("@opentelemetry/instrumentation-openai", "0.5.0"),
            ("storefront", "2026.11.3"),
        ],
        Language::Python => [
            ("opentelemetry.instrumentation.fastapi", "0.59b0"),
            ("opentelemetry.instrumentation.httpx", "0.59b0"),
            ("opentelemetry.instrumentation.psycopg", "0.59b0"),
            ("opentelemetry.instrumentation.aiokafka", "0.59b0"),
            ("opentelemetry.instrumentation.openai_v2", "2.2b0"),
            ("shop.telemetry", "1.0.0"),
        ],
        Language::Dotnet => [
            ("Microsoft.AspNetCore", "9.0.0"),
            ("OpenTelemetry.Instrumentation.GrpcNetClient", "1.13.0-beta.1"),
            ("OpenTelemetry.Instrumentation.StackExchangeRedis", "1.13.0-beta.1"),
            ("Confluent.Kafka", "2.12.0"),
            ("Experimental.Microsoft.Extensions.AI", "9.9.1"),
            ("Shop.Telemetry", "1.0.0"),
        ],
        Language::Rust => [
            ("tonic-tracing-opentelemetry", "0.32.0"),
            ("reqwest-tracing", "0.5.8"),
            ("redis-tracing", "0.4.0"),
            ("rdkafka-tracing", "0.2.1"),
            ("genai", "0.4.3"),
            ("tracing-opentelemetry", "0.32.0"),
        ],
    }
}

fn letters(random: &mut Random) -> String {
    (0..5).map(|_| b"bcdfghjklmnpqrstvwxz2456789"[random.below(27) as usize] as char).collect()
}

/// A random (version 4) UUID of these bits.
fn uuid(high: u64, low: u64) -> String {
    let mut text = String::new();
    push_uuid(&mut text, high, low);
    text
}

/// Appends a random (version 4) UUID of these bits.
pub(super) fn push_uuid(out: &mut String, high: u64, low: u64) {
    let high = high & !0xf000 | 0x4000;
    let low = low & (u64::MAX >> 2) | (1 << 63);
    for (shift, n_digits) in [(32, 8), (16, 4), (0, 4)] {
        push_hex(out, high >> shift, n_digits);
        out.push('-');
    }
    push_hex(out, low >> 48, 4);
    out.push('-');
    push_hex(out, low, 12);
}

/// Appends the last `n_digits` hex digits.
pub(super) fn push_hex(out: &mut String, bits: u64, n_digits: u32) {
    for place in (0..n_digits).rev() {
        out.push(b"0123456789abcdef"[(bits >> (4 * place)) as usize & 15] as char);
    }
}
