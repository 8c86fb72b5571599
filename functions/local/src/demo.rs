//! Live telemetry of the small shop, so that every screen shows something in the first minute.
//!
//! It goes through the front door, as any exporter's: one request a second with the spans that have ended since, and
//! every 15 seconds a scrape of all pods by remote write, beginning with those of the minute before.
//! What cannot be delivered is logged and forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::traffic::Traffic;
use crate::traffic::client::{Client, gzip, snappy};
use crate::traffic::scrapes::{Protocol, SCRAPE_MS, Scrapes};

const TRACES_PER_SECOND: f64 = 20.0;
/// Speed over size: the way is short.
const GZIP_LEVEL: u32 = 1;

/// Scrapes that are there from the start: enough for a rate.
const EARLY_SCRAPES: i64 = 4;

/// Sends telemetry to the server at `endpoint` until `stop` turns true or its sender is gone.
pub async fn run(endpoint: SocketAddr, mut stop: watch::Receiver<bool>) {
    let start_ns = edge::clock::now_ns();
    // The start is the seed: after a restart the shop has other pods and other traces.
    let mut traffic = Traffic::new(start_ns as u64, start_ns).with_rate(TRACES_PER_SECOND);
    let mut client = Client::new(endpoint);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delivering = false;
    let mut round_ms = start_ns / 1_000_000 - EARLY_SCRAPES * SCRAPE_MS;
    let mut scrapes = Scrapes::new(start_ns as u64, round_ms, u64::MAX, Protocol::RemoteWrite);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let now_ns = edge::clock::now_ns();
        // A round is over when its last pod was scraped.
        while round_ms + SCRAPE_MS <= now_ns / 1_000_000 {
            round_ms += SCRAPE_MS;
            for (body, n_samples) in scrapes.next_round() {
                let sending = client.post_samples("/api/v1/write", snappy(&body));
                let outcome = tokio::select! {
                    _ = stop.wait_for(|stopped| *stopped) => return,
                    outcome = sending => outcome,
                };
                match outcome {
                    Ok(answer) if answer.status.is_success() => {}
                    Ok(answer) => {
                        warn!(%endpoint, n_samples, status = %answer.status, "demo metrics refused");
                    }
                    Err(err) => warn!(%endpoint, n_samples, error = %err, "demo metrics not delivered"),
                }
            }
        }
        let request = traffic.request_until(now_ns);
        if request.n_spans() == 0 {
            continue;
        }
        let sending = client.post_traces("/v1/traces", gzip(&request.body, GZIP_LEVEL));
        let outcome = tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            outcome = sending => outcome,
        };
        let spans = request.n_spans();
        // Each change is logged once, not each second.
        match outcome {
            Ok(answer) if answer.status.is_success() => {
                if !delivering {
                    info!(%endpoint, spans, "demo telemetry flows");
                }
                delivering = true;
            }
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body);
                warn!(%endpoint, spans, status = %answer.status, %body, "demo telemetry refused");
                delivering = false;
            }
            Err(err) => {
                warn!(%endpoint, spans, error = %err, "demo telemetry not delivered");
                delivering = false;
            }
        }
    }
}
