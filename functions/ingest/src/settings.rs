//! What bounds ingestion and how metrics are named; as a function's environment says it.

use std::time::Duration;

use edge::config;
use model::sampling::head::{HeadSampling, LogSampling, Percentage, RandomnessSource};
use wire::Limits;
use wire::otlp::metrics::Translation;

use crate::Origins;

/// What bounds ingestion.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bounds of one request.
    pub limits: Limits,
    /// Bytes of bodies, compressed and decompressed, that all requests together may hold.
    pub budget_bytes: usize,
    /// How long a request waits for its part of the budget before it is sent away with "retry later".
    pub budget_wait: Duration,
    /// How long a request may take from its first byte to its answer.
    pub timeout: Duration,
    /// Bodies up to this size are decoded on the thread that received them; larger ones on a thread of their own, so
    /// that they do not hold up other connections. 1 MiB of OTLP takes about 5 ms, a hop 20 µs.
    pub inline_bytes: usize,
    /// Larger bodies that are decoded at once.
    pub cpu_permits: usize,
    /// Web pages that may send telemetry from a browser.
    pub origins: Origins,
    /// How metrics of OTLP become series.
    pub translation: Translation,
    /// Series that a tenant may have in an hour, as this process sees them; `None` for any number.
    pub max_series_per_tenant: Option<usize>,
    /// The oldest sample that is taken; `None` for any age.
    pub max_sample_age: Option<Duration>,
    /// How far in the future a sample may lie; `None` for any.
    pub max_sample_future: Option<Duration>,
    /// What is dropped on arrival; `None` for nothing.
    pub sampling: Option<Sampling>,
}

/// What of spans and log records is dropped on arrival.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// How spans are sampled, and log records if they are.
    pub head: HeadSampling,
    /// What of a log record decides; `None` to keep all.
    pub logs: Option<LogSampling>,
}

/// Resource attributes that become labels of every series: those that Prometheus' guide to OpenTelemetry recommends.
/// Source: prometheus.io, "Using Prometheus as your OpenTelemetry backend".
const PROMOTED: [&str; 18] = [
    "service.instance.id",
    "service.name",
    "service.namespace",
    "service.version",
    "cloud.availability_zone",
    "cloud.region",
    "container.name",
    "deployment.environment",
    "deployment.environment.name",
    "k8s.cluster.name",
    "k8s.container.name",
    "k8s.cronjob.name",
    "k8s.daemonset.name",
    "k8s.deployment.name",
    "k8s.job.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.statefulset.name",
];

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            budget_bytes: 256 << 20,
            budget_wait: Duration::from_secs(2),
            timeout: Duration::from_secs(25),
            inline_bytes: 1 << 20,
            cpu_permits: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            origins: Origins::Any,
            translation: Translation {
                promote_resource_attributes: PROMOTED.map(str::to_owned).to_vec(),
                ..Translation::default()
            },
            max_series_per_tenant: None,
            max_sample_age: None,
            max_sample_future: None,
            sampling: None,
        }
    }
}

impl Settings {
    /// These settings with what the environment's variables say, which are those of `spandrel serve`; `lookup` finds
    /// a variable. An empty value is as good as none.
    ///
    /// # Errors
    /// A variable's value is not of its kind.
    pub fn with_variables(mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, config::Error> {
        let text = |name: &'static str| lookup(name).filter(|value| !value.is_empty());
        let truth = |name| config::parsed(text, name, false, "true or false");
        let optional = |name, takes| match text(name) {
            None => Ok(None),
            Some(_) => config::parsed(text, name, 0, takes).map(Some),
        };
        let translation = &mut self.translation;
        translation.strategy = config::parsed(
            text,
            "SPANDREL_OTLP_TRANSLATION_STRATEGY",
            translation.strategy,
            "a translation strategy of Prometheus such as NoUTF8EscapingWithSuffixes",
        )?;
        if let Some(keys) = text("SPANDREL_OTLP_PROMOTE_RESOURCE_ATTRIBUTES") {
            translation.promote_resource_attributes =
                keys.split(',').map(|key| key.trim().to_owned()).collect();
        }
        translation.keep_identifying_resource_attributes =
            truth("SPANDREL_OTLP_KEEP_IDENTIFYING_RESOURCE_ATTRIBUTES")?;
        translation.convert_histograms_to_nhcb = truth("SPANDREL_OTLP_CONVERT_HISTOGRAMS_TO_NHCB")?;
        translation.promote_scope_metadata = truth("SPANDREL_OTLP_PROMOTE_SCOPE_METADATA")?;
        let limits = &mut self.limits;
        limits.max_labels = config::parsed(text, "SPANDREL_MAX_LABELS", limits.max_labels, "a number")?;
        limits.max_label_value_bytes =
            config::parsed(text, "SPANDREL_MAX_LABEL_VALUE_BYTES", limits.max_label_value_bytes, "bytes")?;
        self.max_series_per_tenant =
            optional("SPANDREL_MAX_SERIES_PER_TENANT", "a number")?.map(|n: u64| n as usize);
        self.max_sample_age =
            optional("SPANDREL_MAX_SAMPLE_AGE_MS", "milliseconds")?.map(Duration::from_millis);
        self.max_sample_future =
            optional("SPANDREL_MAX_SAMPLE_FUTURE_MS", "milliseconds")?.map(Duration::from_millis);
        self.sampling = Sampling::from_variables(text)?;
        Ok(self)
    }
}

impl Sampling {
    /// What the variables that `text` finds say; `None` where no percentage is given.
    fn from_variables(
        text: impl Fn(&'static str) -> Option<String> + Copy,
    ) -> Result<Option<Self>, config::Error> {
        let invalid =
            |name, value: &str, takes| config::Error::Invalid { name, value: value.to_owned(), takes };
        let name = "SPANDREL_SAMPLING_HEAD_PERCENTAGE";
        let Some(value) = text(name) else { return Ok(None) };
        let percentage: Percentage = value.parse().map_err(|_| invalid(name, &value, "a percentage"))?;
        let usual = HeadSampling::of(percentage);
        let modes = "hash_seed, proportional or equalizing";
        let head = HeadSampling {
            mode: config::parsed(text, "SPANDREL_SAMPLING_HEAD_MODE", usual.mode, modes)?,
            hash_seed: config::parsed(
                text,
                "SPANDREL_SAMPLING_HEAD_SEED",
                usual.hash_seed,
                "a number of 32 bits",
            )?,
            precision: config::parsed(text, "SPANDREL_SAMPLING_HEAD_PRECISION", usual.precision, "1 to 14")?,
            fail_closed: config::parsed(
                text,
                "SPANDREL_SAMPLING_HEAD_FAIL_CLOSED",
                usual.fail_closed,
                "true or false",
            )?,
            percentage,
        };
        let name = "SPANDREL_SAMPLING_HEAD_LOGS";
        let logs = match text(name) {
            None => None,
            Some(_) => Some(LogSampling {
                attribute_source: config::parsed(
                    text,
                    name,
                    RandomnessSource::default(),
                    "traceID or record",
                )?,
                from_attribute: text("SPANDREL_SAMPLING_HEAD_LOGS_FROM_ATTRIBUTE"),
                sampling_priority: text("SPANDREL_SAMPLING_HEAD_LOGS_PRIORITY"),
            }),
        };
        Ok(Some(Self { head, logs }))
    }
}

#[cfg(test)]
mod tests {
    use model::sampling::head::Mode;
    use wire::otlp::metrics::TranslationStrategy;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, config::Error> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        Settings::default().with_variables(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn the_environment_is_read_and_checked() {
        let read = settings(&[]).expect("defaults");
        assert_eq!(read.translation, Settings::default().translation);
        let read = settings(&[
            ("SPANDREL_OTLP_TRANSLATION_STRATEGY", "NoUTF8EscapingWithSuffixes"),
            ("SPANDREL_OTLP_PROMOTE_RESOURCE_ATTRIBUTES", "a.b, c"),
            ("SPANDREL_OTLP_PROMOTE_SCOPE_METADATA", "true"),
            ("SPANDREL_MAX_SERIES_PER_TENANT", "9"),
            ("SPANDREL_MAX_SAMPLE_AGE_MS", "1500"),
            ("SPANDREL_MAX_LABELS", ""),
        ])
        .expect("settings");
        assert_eq!(read.translation.strategy, TranslationStrategy::NoUtf8EscapingWithSuffixes);
        assert_eq!(read.translation.promote_resource_attributes, ["a.b", "c"]);
        assert!(read.translation.promote_scope_metadata);
        assert_eq!((read.max_series_per_tenant, read.limits.max_labels), (Some(9), 128));
        assert_eq!(read.max_sample_age, Some(Duration::from_millis(1500)));
        assert_eq!(read.sampling, None);
        for (name, value) in [
            ("SPANDREL_OTLP_TRANSLATION_STRATEGY", "x"),
            ("SPANDREL_MAX_LABELS", "-1"),
            ("SPANDREL_MAX_SAMPLE_AGE_MS", "1s"),
        ] {
            let error = settings(&[(name, value)]).expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn sampling_is_off_without_a_percentage() {
        let read = settings(&[("SPANDREL_SAMPLING_HEAD_MODE", "equalizing")]).expect("settings");
        assert_eq!(read.sampling, None);
        let read = settings(&[("SPANDREL_SAMPLING_HEAD_PERCENTAGE", "12.5")]).expect("settings");
        let usual = HeadSampling::of("12.5".parse().expect("a percentage"));
        assert_eq!(read.sampling, Some(Sampling { head: usual, logs: None }));
        let read = settings(&[
            ("SPANDREL_SAMPLING_HEAD_PERCENTAGE", "12.5"),
            ("SPANDREL_SAMPLING_HEAD_MODE", "equalizing"),
            ("SPANDREL_SAMPLING_HEAD_SEED", "7"),
            ("SPANDREL_SAMPLING_HEAD_PRECISION", "6"),
            ("SPANDREL_SAMPLING_HEAD_FAIL_CLOSED", "false"),
            ("SPANDREL_SAMPLING_HEAD_LOGS", "record"),
            ("SPANDREL_SAMPLING_HEAD_LOGS_FROM_ATTRIBUTE", "unit"),
        ]);
        let sampling = read.expect("settings").sampling.expect("a percentage is given");
        let head = HeadSampling {
            mode: Mode::Equalizing,
            hash_seed: 7,
            precision: "6".parse().expect("a precision"),
            fail_closed: false,
            ..usual
        };
        let logs = LogSampling {
            attribute_source: RandomnessSource::Record,
            from_attribute: Some("unit".to_owned()),
            sampling_priority: None,
        };
        assert_eq!(sampling, Sampling { head, logs: Some(logs) });
        for (name, value) in [
            ("SPANDREL_SAMPLING_HEAD_PERCENTAGE", "-1"),
            ("SPANDREL_SAMPLING_HEAD_MODE", "x"),
            ("SPANDREL_SAMPLING_HEAD_SEED", "-1"),
            ("SPANDREL_SAMPLING_HEAD_PRECISION", "15"),
            ("SPANDREL_SAMPLING_HEAD_FAIL_CLOSED", "x"),
            ("SPANDREL_SAMPLING_HEAD_LOGS", "traceid"),
        ] {
            let error = settings(
                &[("SPANDREL_SAMPLING_HEAD_PERCENTAGE", "1"), (name, value)]
                    [usize::from(name.ends_with("PERCENTAGE"))..],
            );
            let error = error.expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
