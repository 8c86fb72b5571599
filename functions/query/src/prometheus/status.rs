//! Endpoints that describe a server. Clients probe them; what Spandrel has no counterpart of is empty, never missing.
//!
//! Source: Prometheus `docs/querying/api.md`, "Status", "Targets", "Rules", "Alerts".

use super::params::ParamError;
use crate::form::Form;

/// The version of Prometheus whose API this is: clients switch features on by it.
const COMPATIBLE_VERSION: &str = "3.5.0";

/// `/status/buildinfo`. Without `features`: any entry there makes Grafana take this for Mimir.
pub(super) fn build_info() -> String {
    format!(
        r#"{{"version":"{COMPATIBLE_VERSION}","revision":"spandrel-{}","branch":"","buildUser":"","buildDate":"","goVersion":""}}"#,
        env!("CARGO_PKG_VERSION")
    )
}

/// `/status/runtimeinfo`, of a server that keeps nothing in memory.
pub(super) fn runtime_info(now_ms: i64) -> String {
    let now = rfc3339(now_ms);
    format!(
        r#"{{"startTime":"{now}","CWD":"","hostname":"","serverTime":"{now}","reloadConfigSuccess":true,"lastConfigTime":"{now}","timeSeriesCount":0,"corruptionCount":0,"goroutineCount":0,"GOMAXPROCS":0,"GOMEMLIMIT":0,"GOGC":"","GODEBUG":"","storageRetention":""}}"#
    )
}

/// `/status/config`.
pub(super) fn config() -> String {
    r#"{"yaml":""}"#.to_owned()
}

/// `/status/flags`.
pub(super) fn flags() -> String {
    "{}".to_owned()
}

/// `/status/tsdb`.
pub(super) fn tsdb() -> String {
    r#"{"headStats":{"numSeries":0,"numLabelPairs":0,"chunkCount":0,"minTime":0,"maxTime":0},"seriesCountByMetricName":[],"labelValueCountByLabelName":[],"memoryInBytesByLabelName":[],"seriesCountByLabelValuePair":[]}"#.to_owned()
}

/// `/status/walreplay`: there is nothing to replay.
pub(super) fn wal_replay() -> String {
    r#"{"min":0,"max":0,"current":0,"state":"done"}"#.to_owned()
}

/// `/targets`: nothing is scraped.
pub(super) fn targets() -> String {
    r#"{"activeTargets":[],"droppedTargets":[],"droppedTargetCounts":{}}"#.to_owned()
}

/// `/scrape_pools`.
pub(super) fn scrape_pools() -> String {
    r#"{"scrapePools":[]}"#.to_owned()
}

/// `/alertmanagers`.
pub(super) fn alertmanagers() -> String {
    r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#.to_owned()
}

/// `/rules`: there are none yet.
///
/// # Errors
/// A type of rule that does not exist.
pub(super) fn rules(form: &Form) -> Result<String, ParamError> {
    match form.first("type").to_lowercase().as_str() {
        "" | "alert" | "record" => Ok(r#"{"groups":[]}"#.to_owned()),
        other => Err(ParamError::invalid("type", &format!("not supported value {other:?}"))),
    }
}

/// `/alerts`: there are none yet.
pub(super) fn alerts() -> String {
    r#"{"alerts":[]}"#.to_owned()
}

/// UTC, in whole seconds.
fn rfc3339(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The inverse of `params::days_since_epoch`: years begin in March.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_709_164_799_000), "2024-02-28T23:59:59Z");
        assert_eq!(rfc3339(1_709_164_800_000), "2024-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_735_689_599_999), "2024-12-31T23:59:59Z");
    }
}
