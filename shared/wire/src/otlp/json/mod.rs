//! Traces and logs in OTLP/JSON, streamed into columns.
//!
//! Nothing is built of the request but the row at hand: a body of `{},{},…` costs no more than its columns.
//! [`Object`] and [`List`] drive serde; each type with [`Fields`] or [`Items`] stands for one OTLP message or one list of
//! them. What has the right JSON type but a wrong value (an id that is not hex, a number out of range) is a
//! [`Fault`](super::batch::Fault) of its row; what has the wrong type is an error, because the parser cannot go on behind it.
//!
//! Depth is bounded here and not by serde_json, whose own limit would cut deep but allowed values.
//!
//! The envelopes of both signals differ in names only and are read here; `traces` and `logs` read their rows, `origin`
//! resources and scopes, `value` attributes.

mod logs;
mod origin;
mod scalar;
mod traces;
mod value;

use serde::de::{DeserializeSeed as _, MapAccess, SeqAccess};

use self::origin::{Resource, Scope};
use self::scalar::{Fields, Items, List, Object, ignore, owned_text};
use super::batch::{Batch, ResourceIn, Rows, ScopeIn};
use crate::error::Error;
use crate::limits::Limits;

/// Rows that OTLP/JSON can hold.
pub(super) trait Row: Rows {
    /// The list of what resources sent, in a request.
    const RESOURCES: &'static str;
    /// The list of what scopes sent, in one of those.
    const SCOPES: &'static str;
    /// The list of rows, in one of those.
    const ROWS: &'static str;

    /// Reads the next row of a list; false at its end.
    fn read<'de, A: SeqAccess<'de>>(batch: &mut Batch<'_, Self>, list: &mut A) -> Result<bool, A::Error>;
}

/// Reads a request; what is invalid in a row, a scope or a resource rejects its rows.
///
/// # Errors
/// The body is not UTF-8, not JSON, or a field has the wrong JSON type.
pub(super) fn decode<'l, C: Row>(body: &[u8], limits: &'l Limits) -> Result<Batch<'l, C>, Error> {
    let text = std::str::from_utf8(body).map_err(|error| Error::NotUtf8 { offset: error.valid_up_to() })?;
    // JSON is about twice as long as protobuf.
    let mut batch = Batch::new(limits, body.len() / 2);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer.disable_recursion_limit();
    Object(&mut Request { batch: &mut batch }).deserialize(&mut deserializer).map_err(Error::Json)?;
    deserializer.end().map_err(Error::Json)?;
    Ok(batch)
}

struct Request<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
}

impl<'de, C: Row> Fields<'de> for Request<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        if name == C::RESOURCES { map.next_value_seed(List(self)) } else { ignore(map) }
    }
}

impl<'de, C: Row> Items<'de> for Request<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let first_row = self.batch.n_rows();
        let mut item = OfResource { batch: self.batch, resource: ResourceIn::default() };
        let found = list.next_element_seed(Object(&mut item))?.is_some();
        let resource = item.resource;
        self.batch.close_resource(first_row, resource);
        Ok(found)
    }
}

struct OfResource<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
    resource: ResourceIn,
}

impl<'de, C: Row> Fields<'de> for OfResource<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "resource" => {
                let mut resource = Resource { batch: self.batch, resource: &mut self.resource };
                map.next_value_seed(Object(&mut resource))?;
            }
            "schemaUrl" => self.resource.meta.schema_url = owned_text(self.batch, map, "schema url")?,
            _ if name == C::SCOPES => map.next_value_seed(List(&mut Scopes { batch: self.batch }))?,
            _ => ignore(map)?,
        }
        // A row takes its fault with it, so one that is left is the resource's.
        self.resource.fault = self.resource.fault.or(self.batch.fault.take());
        Ok(())
    }
}

struct Scopes<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
}

impl<'de, C: Row> Items<'de> for Scopes<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        let first_row = self.batch.n_rows();
        let mut item = OfScope { batch: self.batch, scope: ScopeIn::default() };
        let found = list.next_element_seed(Object(&mut item))?.is_some();
        let scope = item.scope;
        self.batch.close_scope(first_row, scope);
        Ok(found)
    }
}

struct OfScope<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
    scope: ScopeIn,
}

impl<'de, C: Row> Fields<'de> for OfScope<'_, '_, C> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "scope" => {
                let mut scope = Scope { batch: self.batch, scope: &mut self.scope };
                map.next_value_seed(Object(&mut scope))?;
            }
            "schemaUrl" => self.scope.schema_url = owned_text(self.batch, map, "schema url")?,
            _ if name == C::ROWS => map.next_value_seed(List(&mut RowList { batch: self.batch }))?,
            _ => ignore(map)?,
        }
        // A row takes its fault with it, so one that is left is the scope's.
        self.scope.fault = self.scope.fault.or(self.batch.fault.take());
        Ok(())
    }
}

struct RowList<'b, 'l, C> {
    batch: &'b mut Batch<'l, C>,
}

impl<'de, C: Row> Items<'de> for RowList<'_, '_, C> {
    fn item<A: SeqAccess<'de>>(&mut self, list: &mut A) -> Result<bool, A::Error> {
        C::read(self.batch, list)
    }
}
