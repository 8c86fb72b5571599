//! Keys and values of the table; pure.
//!
//! | partition | sort key | value |
//! |---|---|---|
//! | `<tenant>#traces#<window>#<shard>` | `<level>#<least start>#<content>` | [`Descriptor`] of a file |
//! | `<tenant>#traces#<window>#<shard>` | `t#` and the sort key of a merged file | [`fingerprint::write_sieve`] of its traces |
//! | `<tenant>#traces#windows` | `<window>#<shards>` | when a writer named it last: the windows that have files |
//! | `#tenants` | `<tenant>` | nothing: the tenants that have files |
//! | `<tenant>#traces#services` | `=<service>` | [`names::Operations`] |
//! | `<tenant>#metrics#<window>#<shard>` | as for traces | [`SeriesDescriptor`] of a file |
//! | `<tenant>#metrics#windows` | `<window>#<shards>` | as for traces |
//! | `<tenant>#metrics#names` | `=<metric>` | nothing: the names of metrics |
//! | `<tenant>#metrics#labels` | `=<label>` | nothing: the names of labels |
//! | `<tenant>#metrics#metadata` | `=<family>` | [`names::Said`] |
//! | `<tenant>#logs#<window>#<shard>` | as for traces | [`LogDescriptor`] of a file |
//! | `<tenant>#logs#windows` | `<window>#<shards>` | as for traces |
//! | `#leases` | `<tenant>#<signal>#<window>` | who merges there, and until when |
//! | `#retired` | `<due>#<content>` | what is deleted then |
//! | `#erasures`, `#erased` | `<requested>#<hash>` | [`Erasure`], pending and done |
//!
//! A window is an hour of span starts, sample times or log times, `2026-11-25T01`. A file is indexed once, in the window of its least one; one
//! that reaches further than [`WINDOW_REACH_NS`] behind it is in the window `wide`, which every query reads. So a query
//! for some hours reads these, the one before, the merged ones around them, and `wide`.
//!
//! The item of a file that was merged into others names them for a while, in place of what it said: a reader that sees it
//! without one of them, because it was published while the reader went from window to window, reads that one by its key. A
//! file to which policies were applied says so before its item.

mod descriptor;
mod erasure;
pub mod fingerprint;
mod item;
pub mod keys;
mod logs;
pub mod names;
mod places;
mod retired;
mod series;
mod treated;
mod window_item;

pub(crate) use descriptor::trace_sieve;
pub use descriptor::{Descriptor, MergedSpans, SpanUnit, Summary};
pub use erasure::{Erasure, ErasureTarget};
pub(crate) use item::{read_section, write_section};
pub use keys::{FileKey, NamedWindow, TableLayout, WINDOW_REACH_NS, Window, hours_of_long_window};
pub use logs::{LogDescriptor, LogSummary, LogUnit, MergedLogs};
pub use places::Places;
pub(crate) use retired::{AfterGrace, GONE, MAX_HEIRS, PlacedFiles, is_retired, read_retired, write_retired};
pub(crate) use series::hash_metric;
pub use series::{SeriesDescriptor, SeriesSummary, SeriesUnit, UnitSummary};
pub(crate) use treated::{split_treated, write_treated};
pub(crate) use window_item::WindowItem;
