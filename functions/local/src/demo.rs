//! Live telemetry of the small shop, so that every screen shows something in the first minute.
//!
//! It goes through the front door, as any exporter's: one request a second with the spans that have ended since.
//! What cannot be delivered is logged and forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::traffic::Traffic;
use crate::traffic::client::{Client, gzip};

const TRACES_PER_SECOND: f64 = 20.0;
/// Speed over size: the way is short.
const GZIP_LEVEL: u32 = 1;

/// Sends telemetry to `http://<endpoint>/v1/traces` until `stop` turns true or its sender is gone.
pub async fn run(endpoint: SocketAddr, mut stop: watch::Receiver<bool>) {
    let start_ns = edge::clock::now_ns();
    // The start is the seed: after a restart the shop has other pods and other traces.
    let mut traffic = Traffic::new(start_ns as u64, start_ns).with_rate(TRACES_PER_SECOND);
    let mut client = Client::new(endpoint);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut delivering = false;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let request = traffic.request_until(edge::clock::now_ns());
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
