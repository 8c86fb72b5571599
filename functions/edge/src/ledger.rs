//! What a process did to the stores, by function and tenant: for `/metrics`.
//!
//! Each request has counters of its own, for the log; whatever they count is counted here at once, also for requests
//! that nobody waits for any more. A process keeps sums of [`MAX_TENANTS`] tenants for each function; all others
//! share one, so that whoever makes up tenants makes no page longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::TenantId;
use storage::{Calls, Usage};

use crate::metrics::Page;

/// Tenants of one function that have sums of their own.
pub const MAX_TENANTS: usize = 100;
/// The name under which all other tenants are added up; a tenant of this name is among them.
pub const OTHER_TENANTS: &str = "other";

/// Sums of storage calls, by function and tenant.
#[derive(Debug, Default)]
pub struct Ledger {
    sums: Mutex<BTreeMap<&'static str, BTreeMap<String, Arc<Calls>>>>,
}

impl Ledger {
    /// Counters for one request, or for one tick, of a function. `tenant` is `None` where work is for none, or for all.
    pub fn calls(&self, function: &'static str, tenant: Option<&TenantId>) -> Arc<Calls> {
        let tenant = tenant.map_or("", TenantId::as_str);
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let of_function = sums.entry(function).or_default();
        let name = if of_function.contains_key(tenant) || of_function.len() < MAX_TENANTS {
            tenant
        } else {
            OTHER_TENANTS
        };
        let sum = of_function.entry(name.to_owned()).or_default();
        Arc::new(Calls::within(Arc::clone(sum)))
    }

    /// Appends the sums to a page of metrics; those that counted nothing are left out.
    pub fn write(&self, page: &mut Page) {
        let mut calls: Vec<(String, u64)> = Vec::new();
        let mut bytes: Vec<(String, u64)> = Vec::new();
        let mut units: Vec<(String, u64)> = Vec::new();
        for (function, tenant, usage) in self.sums() {
            let label = |rest: &str| format!(r#"function="{function}",tenant="{tenant}",{rest}"#);
            for (call, n) in [
                ("object_put", usage.object_puts),
                ("object_get", usage.object_gets),
                ("object_list", usage.object_lists),
                ("object_delete", usage.object_deletes),
                ("table_read", usage.table_reads),
                ("table_write", usage.table_writes),
            ] {
                calls.push((label(&format!(r#"call="{call}""#)), n));
            }
            for (direction, store, n) in [
                ("written", "objects", usage.bytes_written),
                ("read", "objects", usage.bytes_read),
                ("written", "table", usage.table_bytes_written),
                ("read", "table", usage.table_bytes_read),
            ] {
                bytes.push((label(&format!(r#"direction="{direction}",store="{store}""#)), n));
            }
            units.push((label(r#"unit="read""#), usage.table_read_units));
            units.push((label(r#"unit="write""#), usage.table_write_units));
        }
        family(
            page,
            "spandrel_storage_calls_total",
            "Storage calls by kind; these are what the provider bills.",
            &calls,
        );
        family(page, "spandrel_storage_bytes_total", "Bytes moved by storage calls.", &bytes);
        family(
            page,
            "spandrel_storage_table_units_total",
            "Read units of 4 KB and write units of 1 KB, as DynamoDB bills them.",
            &units,
        );
    }

    fn sums(&self) -> Vec<(&'static str, String, Usage)> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let all = sums.iter().flat_map(|(function, tenants)| {
            tenants.iter().map(|(tenant, calls)| (*function, tenant.clone(), calls.usage()))
        });
        all.filter(|(.., usage)| *usage != Usage::default()).collect()
    }
}

fn family(page: &mut Page, name: &str, help: &str, values: &[(String, u64)]) {
    let values: Vec<(&str, u64)> = values.iter().map(|(labels, n)| (labels.as_str(), *n)).collect();
    page.counters(name, help, &values);
}

#[cfg(test)]
mod tests {
    use storage::object::Object as _;
    use storage::object::memory::MemoryObjects;

    use super::*;

    async fn put(ledger: &Ledger, function: &'static str, tenant: &str) {
        let tenant: TenantId = tenant.parse().expect("a tenant");
        let calls = ledger.calls(function, Some(&tenant));
        let objects =
            storage::metered::MeteredObject::new(Arc::new(MemoryObjects::new()), Arc::clone(&calls));
        objects.put_if_absent("a/b.parquet", "12345".into()).await.expect("memory");
        assert_eq!(calls.usage().object_puts, 1, "a request has counters of its own");
    }

    fn page(ledger: &Ledger) -> String {
        let mut page = Page::default();
        ledger.write(&mut page);
        page.finish()
    }

    #[tokio::test]
    async fn requests_add_up_by_function_and_tenant() {
        let ledger = Ledger::default();
        put(&ledger, "ingest", "a").await;
        put(&ledger, "ingest", "a").await;
        put(&ledger, "query", "b").await;
        ledger.calls("query", None);
        let page = page(&ledger);
        for line in [
            "# TYPE spandrel_storage_calls_total counter",
            r#"spandrel_storage_calls_total{function="ingest",tenant="a",call="object_put"} 2"#,
            r#"spandrel_storage_calls_total{function="query",tenant="b",call="object_put"} 1"#,
            r#"spandrel_storage_bytes_total{function="ingest",tenant="a",direction="written",store="objects"} 10"#,
            r#"spandrel_storage_table_units_total{function="ingest",tenant="a",unit="write"} 0"#,
        ] {
            assert!(page.lines().any(|shown| shown == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(r#"tenant="""#), "nothing was counted there\n{page}");
    }

    #[tokio::test]
    async fn made_up_tenants_share_one_sum() {
        let ledger = Ledger::default();
        for i in 0..MAX_TENANTS + 50 {
            put(&ledger, "ingest", &format!("t{i}")).await;
        }
        put(&ledger, "ingest", "t0").await;
        put(&ledger, "query", "late").await;
        let page = page(&ledger);
        let puts = |labels: &str| {
            let line = format!(r#"spandrel_storage_calls_total{{{labels},call="object_put"}} "#);
            page.lines().find_map(|shown| shown.strip_prefix(&line).map(str::to_owned))
        };
        assert_eq!(puts(r#"function="ingest",tenant="t0""#).as_deref(), Some("2"));
        assert_eq!(puts(r#"function="ingest",tenant="t100""#), None);
        assert_eq!(puts(r#"function="ingest",tenant="other""#).as_deref(), Some("50"));
        assert_eq!(
            puts(r#"function="query",tenant="late""#).as_deref(),
            Some("1"),
            "each function has its own"
        );
    }
}
