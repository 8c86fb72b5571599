//! What the handlers read of storage, behind a trait so that they are tested without one.

use std::sync::Arc;

use futures::future::BoxFuture;
use model::search::TraceSearch;
use model::{TenantId, TimeRange, TraceId};
use storage::read::{self, Limits, Means, Operation, Position, SearchPage, ServiceLink, TraceSet};
use storage::{Calls, Result, Store};

/// The functions of [`storage::read`], with their contracts.
pub(crate) trait Reads: Send + Sync {
    /// The same reads, with each storage call counted in `calls`.
    fn metered(&self, calls: &Arc<Calls>) -> Arc<dyn Reads>;

    /// See [`read::traces_by_id`].
    fn traces_by_id<'a>(
        &'a self,
        tenant: &'a TenantId,
        ids: &'a [TraceId],
        now_s: u64,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<TraceSet>>;

    /// See [`read::search_with`].
    fn search<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        limits: &'a Limits,
        means: Means<'a>,
    ) -> BoxFuture<'a, Result<TraceSet>>;

    /// See [`read::search_page_with`].
    fn search_page<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        after: Option<Position>,
        limits: &'a Limits,
        means: Means<'a>,
    ) -> BoxFuture<'a, Result<SearchPage>>;

    /// See [`read::services`].
    fn services<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Vec<String>>>;

    /// See [`read::operations`].
    fn operations<'a>(
        &'a self,
        tenant: &'a TenantId,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Operation>>>;

    /// See [`read::service_links`].
    fn service_links<'a>(
        &'a self,
        tenant: &'a TenantId,
        range: TimeRange,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<Vec<ServiceLink>>>;
}

impl Reads for Store {
    fn metered(&self, calls: &Arc<Calls>) -> Arc<dyn Reads> {
        Arc::new(Store::metered(self, calls))
    }

    fn traces_by_id<'a>(
        &'a self,
        tenant: &'a TenantId,
        ids: &'a [TraceId],
        now_s: u64,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<TraceSet>> {
        Box::pin(read::traces_by_id(self, tenant, ids, now_s, limits))
    }

    fn search<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        limits: &'a Limits,
        means: Means<'a>,
    ) -> BoxFuture<'a, Result<TraceSet>> {
        Box::pin(read::search_with(self, tenant, search, limits, means))
    }

    fn search_page<'a>(
        &'a self,
        tenant: &'a TenantId,
        search: &'a TraceSearch,
        after: Option<Position>,
        limits: &'a Limits,
        means: Means<'a>,
    ) -> BoxFuture<'a, Result<SearchPage>> {
        Box::pin(read::search_page_with(self, tenant, search, after, limits, means))
    }

    fn services<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(read::services(self, tenant))
    }

    fn operations<'a>(
        &'a self,
        tenant: &'a TenantId,
        service: &'a str,
    ) -> BoxFuture<'a, Result<Vec<Operation>>> {
        Box::pin(read::operations(self, tenant, service))
    }

    fn service_links<'a>(
        &'a self,
        tenant: &'a TenantId,
        range: TimeRange,
        limits: &'a Limits,
    ) -> BoxFuture<'a, Result<Vec<ServiceLink>>> {
        Box::pin(read::service_links(self, tenant, range, limits))
    }
}
