//! `spandrel sampling dry-run`: what a policy would keep, drop and save of what is stored; nothing is written.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;

use model::TenantId;
use serde_json::{Value, json};
use storage::compact::Sampling;
use storage::compact::thin::{self, DryRun, Share};
use storage::read;

use crate::cost::bill::{Billed, GB};
use crate::cost::prices::US_EAST_1;
use crate::cost::show;
use crate::{stores, table};

/// Arguments of `spandrel sampling`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what a policy would keep by each reason, drop and save of what is stored, whatever its age
    DryRun(DryRunArgs),
}

/// Arguments of `spandrel sampling dry-run`.
#[derive(Debug, clap::Args)]
pub struct DryRunArgs {
    #[command(flatten)]
    stores: stores::Args,
    /// The policies, as the server takes them: errors;slow=2s;rare=50;attribute=key=value;rest=10%;after=6h
    #[arg(long, env = "SPANDREL_SAMPLING_POLICY", value_name = "POLICIES")]
    policy: Sampling,
    /// One line of JSON in place of the table
    #[arg(long)]
    json: bool,
}

/// Prints what a policy would do.
///
/// # Errors
/// The stores do not open or do not answer; a file is corrupt.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let What::DryRun(args) = &args.what;
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let of_tenants = runtime.block_on(async {
        let store = args.stores.open().await?;
        let mut of_tenants: BTreeMap<TenantId, DryRun> = BTreeMap::new();
        for tenant in read::tenants(&store).await? {
            if let Some(policy) = args.policy.of(&tenant) {
                of_tenants.insert(tenant.clone(), thin::dry_run(&store, &tenant, policy).await?);
            }
        }
        Ok::<_, Box<dyn Error>>(of_tenants)
    })?;
    let text = if args.json { format!("{}\n", to_json(&of_tenants)) } else { to_text(&of_tenants) };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// What storing a share costs a month.
fn dollars_a_month(share: &Share) -> f64 {
    Billed { object_gb_months: share.bytes / GB, ..Billed::default() }.dollars(&US_EAST_1)
}

/// Each part of a tenant's traces: what becomes of it, and why.
fn parts(dry_run: &DryRun) -> Vec<(String, Share)> {
    let kept = dry_run.kept.iter().map(|(reason, share)| (format!("kept: {reason}"), *share));
    kept.chain([("kept by chance".to_owned(), dry_run.sampled), ("dropped".to_owned(), dry_run.dropped)])
        .collect()
}

fn to_text(of_tenants: &BTreeMap<TenantId, DryRun>) -> String {
    let head = ["what", "traces", "spans", "bytes", "rest, a month"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let (mut all, mut dropped) = (Share::default(), Share::default());
    for (tenant, dry_run) in of_tenants {
        dropped.add(dry_run.dropped);
        for (what, share) in parts(dry_run) {
            all.add(share);
            let mut row = vec![format!("{tenant} {what}")];
            row.extend([share.n_traces as f64, share.n_spans as f64, share.bytes].map(show::quantity));
            row.push(show::dollars(dollars_a_month(&share)));
            rows.push(row);
        }
    }
    let percent = 100.0 * dropped.bytes / all.bytes.max(1.0);
    format!(
        "{}\n{} of {} a month saved ({percent:.1} % of the bytes); nothing was changed\n\
         A trace that lies in several days counts in each. Objects at rest by the list prices of us-east-1.\n",
        table::text(&rows),
        show::dollars(dollars_a_month(&dropped)),
        show::dollars(dollars_a_month(&all)),
    )
}

fn to_json(of_tenants: &BTreeMap<TenantId, DryRun>) -> Value {
    let share = |share: &Share| {
        json!({
            "traces": share.n_traces, "spans": share.n_spans, "bytes": share.bytes.round(),
            "dollars_a_month": dollars_a_month(share),
        })
    };
    let of_tenant = |(tenant, dry_run): (&TenantId, &DryRun)| {
        let kept: serde_json::Map<String, Value> =
            dry_run.kept.iter().map(|(reason, kept)| (reason.clone(), share(kept))).collect();
        json!({
            "tenant": tenant.as_str(), "kept": kept, "sampled": share(&dry_run.sampled),
            "dropped": share(&dry_run.dropped),
        })
    };
    json!({ "tenants": of_tenants.iter().map(of_tenant).collect::<Vec<_>>(), "prices": US_EAST_1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_priced() {
        let share = |n_traces, bytes| Share { n_traces, n_spans: 10 * n_traces, bytes };
        let dry_run = DryRun {
            kept: [("errors".to_owned(), share(5, GB))].into(),
            sampled: share(10, GB),
            dropped: share(85, 6.0 * GB),
        };
        let of_tenants = BTreeMap::from([(TenantId::default_tenant(), dry_run)]);
        let json = to_json(&of_tenants);
        let tenant = &json["tenants"][0];
        assert_eq!(
            (&tenant["kept"]["errors"]["traces"], &tenant["dropped"]["spans"]),
            (&5.into(), &850.into())
        );
        let dollars = tenant["dropped"]["dollars_a_month"].as_f64().expect("a number");
        assert!((dollars - 0.138).abs() < 1e-9, "{dollars}");
        let text = to_text(&of_tenants);
        assert!(text.contains("default kept: errors"), "{text}");
        assert!(text.contains("$0.1380 of $0.1840 a month saved (75.0 % of the bytes)"), "{text}");
    }
}
