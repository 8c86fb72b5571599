//! `spandrel repair`: what crashes left behind; shown first, mended when told.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;

use storage::compact::repair::{self, Damage};

use crate::stores;

/// Arguments of `spandrel repair`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    stores: stores::Args,
    /// Younger objects are left alone, in seconds: writes and merges may be under way
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    min_age_s: u64,
    /// Remove what was found; without it nothing is changed
    #[arg(long)]
    yes: bool,
}

/// Shows damage, and mends it if told.
///
/// # Errors
/// The stores do not open or do not answer.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    edge::logging::init(edge::logging::Style::Text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let store = args.stores.open().await?;
        let damage = repair::find(&store, args.min_age_s, edge::clock::now_s()).await?;
        if args.yes {
            repair::mend(&store, &damage).await?;
        }
        Ok::<_, Box<dyn Error>>(table(&damage, args.yes))
    })?;
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn table(damage: &Damage, is_mended: bool) -> String {
    let mut text = String::new();
    let mut line = |what: &str, of: &str| {
        writeln!(text, "{what} {of}").expect("invariant: writing to a string succeeds");
    };
    for orphan in &damage.orphans {
        line("unnamed object", &format!("{} ({} bytes)", orphan.key, orphan.size));
    }
    for (item, object) in &damage.dangling {
        line("lost object", &format!("{object}, named by {} {}", item.partition, item.sort));
    }
    for (lease, _) in &damage.leases {
        line("dead lease", &lease.sort);
    }
    let (n_orphans, n_lost, n_leases) = (damage.orphans.len(), damage.dangling.len(), damage.leases.len());
    let done = match (damage.is_empty(), is_mended) {
        (true, _) => "nothing to mend",
        (false, true) => "removed",
        (false, false) => "nothing changed; --yes removes them",
    };
    line(&format!("{n_orphans} unnamed objects, {n_lost} lost objects, {n_leases} dead leases:"), done);
    text
}
