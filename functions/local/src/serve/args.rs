//! Arguments of `spandrel serve`; each has an environment variable.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use edge::open::{self, Location};
use ingest::{Origins, Sampling, Translation, TranslationStrategy};
use model::sampling::Precision;
use model::sampling::head::{HeadSampling, LogSampling, Mode, Percentage, RandomnessSource};
use storage::compact::{Retention, Sampling as StoredSampling};
use storage::read::Share;

/// Arguments of `spandrel serve`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder for objects and index
    #[arg(long, env = "SPANDREL_DATA", value_name = "DIR", default_value = "./spandrel-data")]
    pub data: PathBuf,
    /// The one endpoint that serves every path, and the OTLP port
    #[arg(long, env = "SPANDREL_HTTP", value_name = "ADDR", default_value = "127.0.0.1:4318")]
    pub http: String,
    /// Also listen where existing configurations expect each API
    #[arg(long, env = "SPANDREL_CLASSIC_PORTS", value_name = "on|off", default_value = "on")]
    pub classic_ports: Switch,
    /// Jaeger's query API
    #[arg(
        long = "listen.jaeger",
        env = "SPANDREL_LISTEN_JAEGER",
        value_name = "ADDR|off",
        default_value = "127.0.0.1:16686"
    )]
    pub listen_jaeger: Listen,
    /// Prometheus' API: queries and remote write
    #[arg(
        long = "listen.prometheus",
        env = "SPANDREL_LISTEN_PROMETHEUS",
        value_name = "ADDR|off",
        default_value = "127.0.0.1:9090"
    )]
    pub listen_prometheus: Listen,
    /// Health checks, as the Collector's extension has them
    #[arg(
        long = "listen.health",
        env = "SPANDREL_LISTEN_HEALTH",
        value_name = "ADDR|off",
        default_value = "127.0.0.1:13133"
    )]
    pub listen_health: Listen,
    /// Where objects are instead of DIR: s3://bucket/prefix
    #[arg(long, env = "SPANDREL_OBJECT_STORE", value_name = "LOCATION", requires = "index")]
    pub object_store: Option<String>,
    /// Where the index is instead of DIR: dynamodb://table
    #[arg(long, env = "SPANDREL_INDEX", value_name = "LOCATION", requires = "object_store")]
    pub index: Option<String>,
    /// Partitions of the index into which what arrives in an hour is written [default: 1 on disk, 4 in DynamoDB]
    #[arg(long, env = "SPANDREL_INDEX_SHARDS", value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub index_shards: Option<u8>,
    /// Also generate live telemetry of a small shop of services
    #[arg(long, env = "SPANDREL_DEMO")]
    pub demo: bool,
    /// The longest body of a request once it is decompressed
    #[arg(long, env = "SPANDREL_MAX_BODY_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_body_bytes: usize,
    /// Bytes of bodies that all requests together may hold
    #[arg(long, env = "SPANDREL_INGEST_BUDGET_BYTES", value_name = "BYTES", default_value_t = 256 << 20)]
    pub ingest_budget_bytes: usize,
    /// How long one ingest request may take
    #[arg(long, env = "SPANDREL_INGEST_TIMEOUT_MS", value_name = "MS", default_value_t = 25_000)]
    pub ingest_timeout_ms: u64,
    /// How OTLP metrics become series
    #[command(flatten)]
    pub otlp: OtlpArgs,
    /// What is dropped on arrival
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// The most labels of a series
    #[arg(long, env = "SPANDREL_MAX_LABELS", value_name = "N", default_value_t = 128)]
    pub max_labels: usize,
    /// The longest value of a label
    #[arg(long, env = "SPANDREL_MAX_LABEL_VALUE_BYTES", value_name = "BYTES", default_value_t = 16 << 10)]
    pub max_label_value_bytes: usize,
    /// The most series of a tenant in an hour [default: any number]
    #[arg(long, env = "SPANDREL_MAX_SERIES_PER_TENANT", value_name = "N")]
    pub max_series_per_tenant: Option<usize>,
    /// The oldest sample that is taken [default: any]
    #[arg(long, env = "SPANDREL_MAX_SAMPLE_AGE_MS", value_name = "MS")]
    pub max_sample_age_ms: Option<u64>,
    /// How far in the future a sample may lie [default: any]
    #[arg(long, env = "SPANDREL_MAX_SAMPLE_FUTURE_MS", value_name = "MS")]
    pub max_sample_future_ms: Option<u64>,
    /// How long one query may take
    #[arg(long, env = "SPANDREL_QUERY_TIMEOUT_MS", value_name = "MS", default_value_t = 25_000)]
    pub query_timeout_ms: u64,
    /// Bytes of objects that queries keep in memory [default: 0 with a folder, 256 MiB in front of a cloud]
    #[arg(long, env = "SPANDREL_CACHE_MEMORY_BYTES", value_name = "BYTES")]
    pub cache_memory_bytes: Option<u64>,
    /// Folder in which queries keep more of objects, also for the next start
    #[arg(long, env = "SPANDREL_CACHE_DIR", value_name = "DIR")]
    pub cache_dir: Option<PathBuf>,
    /// Bytes of objects in that folder
    #[arg(long, env = "SPANDREL_CACHE_DISK_BYTES", value_name = "BYTES", default_value_t = 1 << 30)]
    pub cache_disk_bytes: u64,
    /// Bytes of results of PromQL range queries that are kept; 0 for none
    #[arg(long, env = "SPANDREL_RESULT_CACHE_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    pub result_cache_bytes: u64,
    /// Bytes of what searches for traces found that are kept; 0 for none
    #[arg(long, env = "SPANDREL_SEARCH_CACHE_BYTES", value_name = "BYTES", default_value_t = 32 << 20)]
    pub search_cache_bytes: u64,
    /// Bytes that one task reads for a query; more is split into jobs
    #[arg(long, env = "SPANDREL_QUERY_SHARE_BYTES", value_name = "BYTES", default_value_t = 1 << 30)]
    pub query_share_bytes: u64,
    /// The most jobs of a query; 0 for none
    #[arg(long, env = "SPANDREL_QUERY_JOBS", value_name = "N", default_value_t = Share::DEFAULT_JOBS)]
    pub query_jobs: usize,
    /// How often small files are merged; 0 for never
    #[arg(long, env = "SPANDREL_COMPACT_INTERVAL_MS", value_name = "MS", default_value_t = 15_000)]
    pub compact_interval_ms: u64,
    /// Wait so long in each storage call, as if the stores were far away
    #[arg(long, env = "SPANDREL_STORAGE_LATENCY_MS", value_name = "MS", default_value_t = 0, hide = true)]
    pub storage_latency_ms: u64,
    /// How old what is stored may become, such as 30d,metrics=400d,traces{status=error}=90d [default: any]
    #[arg(long, env = "SPANDREL_RETENTION", value_name = "RULES", default_value_t)]
    pub retention: Retention,
    /// Which stored traces stay, such as errors;slow=2s;rest=10%;after=6h|team-a/rest=100%;after=0s [default: all]
    #[arg(
        long = "sampling.policy",
        env = "SPANDREL_SAMPLING_POLICY",
        value_name = "POLICIES",
        default_value_t
    )]
    pub sampling_policy: StoredSampling,
    /// Web pages whose SDKs may send telemetry: all, none, or origins separated by commas
    #[arg(long, env = "SPANDREL_CORS_ORIGINS", value_name = "all|none|ORIGIN,…", default_value = "all")]
    pub cors_origins: String,
}

/// How OTLP metrics become series; by the names of Prometheus' own settings.
#[derive(Debug, Clone, clap::Args)]
pub struct OtlpArgs {
    /// How OTLP metrics are named, by Prometheus' names of its strategies
    #[arg(
        long = "otlp.translation-strategy",
        env = "SPANDREL_OTLP_TRANSLATION_STRATEGY",
        value_name = "STRATEGY",
        default_value = "UnderscoreEscapingWithSuffixes"
    )]
    pub translation_strategy: TranslationStrategy,
    /// Resource attributes that become labels of every series [default: those of Prometheus' guide]
    #[arg(
        long = "otlp.promote-resource-attributes",
        env = "SPANDREL_OTLP_PROMOTE_RESOURCE_ATTRIBUTES",
        value_name = "KEY,…",
        value_delimiter = ','
    )]
    pub promote_resource_attributes: Option<Vec<String>>,
    /// `target_info` also has the attributes that job and instance are made of
    #[arg(
        long = "otlp.keep-identifying-resource-attributes",
        env = "SPANDREL_OTLP_KEEP_IDENTIFYING_RESOURCE_ATTRIBUTES"
    )]
    pub keep_identifying_resource_attributes: bool,
    /// Explicit histograms become native ones with custom buckets
    #[arg(long = "otlp.convert-histograms-to-nhcb", env = "SPANDREL_OTLP_CONVERT_HISTOGRAMS_TO_NHCB")]
    pub convert_histograms_to_nhcb: bool,
    /// The scope becomes labels of every series
    #[arg(long = "otlp.promote-scope-metadata", env = "SPANDREL_OTLP_PROMOTE_SCOPE_METADATA")]
    pub promote_scope_metadata: bool,
}

/// What of spans and log records is dropped on arrival; by the names of the Collector's probabilistic sampler.
#[derive(Debug, Clone, clap::Args)]
pub struct SamplingArgs {
    /// The share of traces that is kept, 0 to 100 [default: all, and nothing is looked at]
    #[arg(
        long = "sampling.head-percentage",
        env = "SPANDREL_SAMPLING_HEAD_PERCENTAGE",
        value_name = "PERCENT",
        allow_negative_numbers = true
    )]
    pub percentage: Option<Percentage>,
    /// Where randomness comes from: behind SDKs that write thresholds take proportional or equalizing
    #[arg(
        long = "sampling.head-mode",
        env = "SPANDREL_SAMPLING_HEAD_MODE",
        value_name = "hash_seed|proportional|equalizing",
        default_value_t = Mode::HashSeed
    )]
    pub mode: Mode,
    /// Goes into the hash: equal within a tier of samplers
    #[arg(
        long = "sampling.head-seed",
        env = "SPANDREL_SAMPLING_HEAD_SEED",
        value_name = "N",
        default_value_t = 0
    )]
    pub seed: u32,
    /// Hex digits of the thresholds of the modes that do not hash
    #[arg(
        long = "sampling.head-precision",
        env = "SPANDREL_SAMPLING_HEAD_PRECISION",
        value_name = "1..14",
        default_value_t = Precision::default()
    )]
    pub precision: Precision,
    /// Whether what cannot be sampled is dropped
    #[arg(
        long = "sampling.head-fail-closed",
        env = "SPANDREL_SAMPLING_HEAD_FAIL_CLOSED",
        value_name = "true|false",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub fail_closed: bool,
    /// Also sample log records, by trace id or by an attribute [default: all are kept]
    #[arg(long = "sampling.head-logs", env = "SPANDREL_SAMPLING_HEAD_LOGS", value_name = "traceID|record")]
    pub logs: Option<RandomnessSource>,
    /// The attribute of log records that is hashed where there is no trace id, or none is looked at
    #[arg(
        long = "sampling.head-logs-from-attribute",
        env = "SPANDREL_SAMPLING_HEAD_LOGS_FROM_ATTRIBUTE",
        value_name = "KEY"
    )]
    pub logs_from_attribute: Option<String>,
    /// The attribute of log records with the percentage that a record asks for
    #[arg(
        long = "sampling.head-logs-priority",
        env = "SPANDREL_SAMPLING_HEAD_LOGS_PRIORITY",
        value_name = "KEY"
    )]
    pub logs_priority: Option<String>,
}

impl SamplingArgs {
    /// What is sampled, if anything is.
    fn sampling(&self) -> Option<Sampling> {
        let head = HeadSampling {
            mode: self.mode,
            percentage: self.percentage?,
            hash_seed: self.seed,
            precision: self.precision,
            fail_closed: self.fail_closed,
        };
        let logs = self.logs.map(|attribute_source| LogSampling {
            attribute_source,
            from_attribute: self.logs_from_attribute.clone(),
            sampling_priority: self.logs_priority.clone(),
        });
        Some(Sampling { head, logs })
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Where a classical port is, if it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// Closed.
    Off,
    /// At this address and port; port 0 for any that is free.
    At(String),
}

impl FromStr for Listen {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "off" { Self::Off } else { Self::At(text.to_owned()) })
    }
}

impl Args {
    /// Where objects and index are.
    pub(crate) fn locations(&self) -> Result<(Location, Location), open::Error> {
        let folder = || Location::Folder(self.data.clone());
        let objects = self.object_store.as_deref().map(str::parse).transpose()?;
        let index = self.index.as_deref().map(str::parse).transpose()?;
        Ok((objects.unwrap_or_else(folder), index.unwrap_or_else(folder)))
    }

    /// How queries are split.
    pub(crate) fn query_share(&self) -> Share {
        Share { bytes: self.query_share_bytes, max_jobs: self.query_jobs }
    }

    /// Partitions per window of the index.
    pub(crate) fn shards(&self, index: &Location) -> u8 {
        let usual = if matches!(index, Location::DynamoDb { .. }) { 4 } else { 1 };
        self.index_shards.unwrap_or(usual)
    }

    /// What queries keep of objects.
    pub(crate) fn cache(&self) -> edge::cache::Settings {
        let usual = if self.object_store.is_some() { 256 << 20 } else { 0 };
        edge::cache::Settings {
            memory_bytes: self.cache_memory_bytes.unwrap_or(usual),
            folder: self.cache_dir.clone(),
            disk_bytes: self.cache_disk_bytes,
        }
    }

    /// Where Jaeger's API is, if it is open.
    pub(crate) fn jaeger(&self) -> Option<&str> {
        self.classic(&self.listen_jaeger)
    }

    /// Where Prometheus' API is, if it is open.
    pub(crate) fn prometheus(&self) -> Option<&str> {
        self.classic(&self.listen_prometheus)
    }

    /// Where health checks are answered, if they are.
    pub(crate) fn health(&self) -> Option<&str> {
        self.classic(&self.listen_health)
    }

    fn classic<'a>(&self, listen: &'a Listen) -> Option<&'a str> {
        match listen {
            Listen::At(address) if self.classic_ports == Switch::On => Some(address),
            _ => None,
        }
    }

    /// What bounds ingestion.
    pub(crate) fn ingest_settings(&self) -> ingest::Settings {
        let defaults = ingest::Settings::default();
        let limits = defaults.limits;
        let promoted = self.otlp.promote_resource_attributes.clone();
        ingest::Settings {
            limits: ingest::Limits {
                max_body_bytes: self.max_body_bytes,
                max_compressed_bytes: limits.max_compressed_bytes.min(self.max_body_bytes),
                max_labels: self.max_labels,
                max_label_value_bytes: self.max_label_value_bytes,
                ..limits
            },
            translation: Translation {
                strategy: self.otlp.translation_strategy,
                promote_resource_attributes: promoted
                    .unwrap_or(defaults.translation.promote_resource_attributes),
                keep_identifying_resource_attributes: self.otlp.keep_identifying_resource_attributes,
                convert_histograms_to_nhcb: self.otlp.convert_histograms_to_nhcb,
                promote_scope_metadata: self.otlp.promote_scope_metadata,
            },
            max_series_per_tenant: self.max_series_per_tenant,
            max_sample_age: self.max_sample_age_ms.map(Duration::from_millis),
            max_sample_future: self.max_sample_future_ms.map(Duration::from_millis),
            sampling: self.sampling.sampling(),
            budget_bytes: self.ingest_budget_bytes,
            timeout: Duration::from_millis(self.ingest_timeout_ms),
            origins: match self.cors_origins.as_str() {
                "all" => Origins::Any,
                "none" => Origins::Named(Vec::new()),
                names => Origins::Named(names.split(',').map(|name| name.trim().to_owned()).collect()),
            },
            ..ingest::Settings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::Cli;

    fn args(line: &str) -> Result<Args, clap::Error> {
        Cli::try_parse_from(std::iter::once("spandrel").chain(line.split_whitespace())).map(|cli| {
            match cli.command {
                Some(crate::Command::Serve(args)) => *args,
                _ => cli.serve,
            }
        })
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_needs_no_command() {
        for line in ["--demo --http 127.0.0.1:0", "serve --demo --http 127.0.0.1:0"] {
            let args = args(line).expect(line);
            assert_eq!((args.demo, args.http.as_str()), (true, "127.0.0.1:0"));
            assert_eq!(args.jaeger(), Some("127.0.0.1:16686"));
            assert_eq!(args.prometheus(), Some("127.0.0.1:9090"));
            assert_eq!(args.locations().expect("a folder").0, Location::Folder("./spandrel-data".into()));
        }
    }

    #[test]
    fn classical_ports_close_one_by_one_and_together() {
        let check = |line: &str, jaeger: Option<&str>, health: Option<&str>| {
            let args = args(line).expect(line);
            assert_eq!((args.jaeger(), args.health()), (jaeger, health), "{line}");
        };
        check("--listen.jaeger off", None, Some("127.0.0.1:13133"));
        check("--listen.jaeger=[::1]:0 --listen.health=off", Some("[::1]:0"), None);
        check("--classic-ports off --listen.jaeger 127.0.0.1:1", None, None);
    }

    #[test]
    fn metrics_are_translated_as_told() {
        let settings = args("").expect("defaults").ingest_settings();
        let defaults = ingest::Settings::default();
        assert_eq!(settings.translation, defaults.translation);
        assert_eq!((settings.max_series_per_tenant, settings.max_sample_age), (None, None));
        let line = "--otlp.translation-strategy NoTranslation --otlp.promote-resource-attributes a.b,c \
                    --otlp.convert-histograms-to-nhcb --max-series-per-tenant 7 --max-sample-age-ms 5000";
        let settings = args(line).expect(line).ingest_settings();
        assert_eq!(settings.translation.strategy, TranslationStrategy::NoTranslation);
        assert_eq!(settings.translation.promote_resource_attributes, ["a.b", "c"]);
        assert!(settings.translation.convert_histograms_to_nhcb);
        assert_eq!(settings.max_series_per_tenant, Some(7));
        assert_eq!(settings.max_sample_age, Some(Duration::from_secs(5)));
        let error = args("--otlp.translation-strategy Other").expect_err("no strategy");
        assert!(error.to_string().contains("NoUTF8EscapingWithSuffixes"), "{error}");
    }

    #[test]
    fn what_arrives_is_sampled_as_told() {
        let sampling = |line: &str| args(line).expect(line).ingest_settings().sampling;
        assert_eq!(sampling("--sampling.head-mode equalizing"), None);
        let usual = HeadSampling::of("10".parse().expect("a percentage"));
        assert_eq!(sampling("--sampling.head-percentage 10"), Some(Sampling { head: usual, logs: None }));
        let line = "--sampling.head-percentage 10 --sampling.head-mode proportional --sampling.head-seed 3 \
                    --sampling.head-precision 14 --sampling.head-fail-closed false --sampling.head-logs traceID \
                    --sampling.head-logs-priority p";
        let head = HeadSampling {
            mode: Mode::Proportional,
            hash_seed: 3,
            precision: Precision::FULL,
            fail_closed: false,
            ..usual
        };
        let logs = LogSampling { sampling_priority: Some("p".to_owned()), ..LogSampling::default() };
        assert_eq!(sampling(line), Some(Sampling { head, logs: Some(logs) }));
        for (bad, reason) in [
            ("--sampling.head-percentage -1", "0 or more"),
            ("--sampling.head-mode hash", "equalizing"),
            ("--sampling.head-precision 15", "1 to 14"),
            ("--sampling.head-logs traceid", "traceID or record"),
        ] {
            let error = args(bad).expect_err(bad).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_gateway_names_both_stores() {
        let args = args("--object-store s3://b/p --index dynamodb://t").expect("both");
        let (_, index) = args.locations().expect("locations");
        assert_eq!((args.shards(&index), args.shards(&Location::Memory)), (4, 1));
        assert_eq!((args.cache().memory_bytes, args.cache().folder), (256 << 20, None));
        assert!(self::args("--object-store s3://b/p").is_err());
        assert!(self::args("--index-shards 0").is_err());
    }
}
